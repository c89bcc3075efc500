from agent.adapters.host.sysctls import route_localnet_problem


def put(root, interface, value):
    (root / interface).mkdir()
    (root / interface / "route_localnet").write_text(f"{value}\n")


def test_nothing_set_is_no_problem(tmp_path):
    put(tmp_path, "all", 0)
    put(tmp_path, "ecs-bridge", 0)
    assert route_localnet_problem(("ecs-bridge", "docker0"), root=tmp_path) is None


def test_what_is_set_is_named_with_the_cure(tmp_path):
    put(tmp_path, "all", 0)
    put(tmp_path, "docker0", 1)
    problem = route_localnet_problem(("ecs-bridge", "docker0"), root=tmp_path)
    assert problem is not None
    assert "docker0" in problem
    assert "sysctl -w net.ipv4.conf.docker0.route_localnet=0" in problem
    assert "ecs-bridge" not in problem
