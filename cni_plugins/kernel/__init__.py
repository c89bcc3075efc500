"""The vocabulary: links, addresses, routes, neighbours, namespaces. The only place that needs root."""
