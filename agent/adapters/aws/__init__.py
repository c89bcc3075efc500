"""Calls to AWS that any backend may need. The SDK is imported when first used, in a thread."""
