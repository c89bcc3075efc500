import pytest

from agent.adapters.host.inside import Way
from agent.cli.doctor import links
from agent.cli.doctor.facts import Done
from agent.cli.doctor.findings import CannotFix, Finding, NotApplicable

SANDBOX = "5a" * 32


def test_nothing_that_configures_interfaces_is_well(world) -> None:
    world.process(10, "sshd")
    assert links.network_managers(world.facts()).finding is Finding.OK


def test_networkmanager_is_told_to_leave_later_interfaces_alone_and_present_ones_stay(world) -> None:
    world.process(10, "NetworkManager")
    (world.root / "sys/class/net/ens5").mkdir()
    world.programs["nmcli"] = Done(0, "")
    verdict = links.network_managers(world.facts())
    assert verdict.finding is Finding.WARNING
    assert verdict.fix is not None
    assert "ens5" in verdict.fix.says
    assert "rm /etc/NetworkManager" in verdict.fix.undo
    verdict.fix.apply()
    written = (world.root / links.NM_DROP_IN).read_text()
    assert (
        "unmanaged-devices+=interface-name:*;except:interface-name:lo;except:interface-name:ens5\n" in written
    )
    assert world.ran == [("nmcli", "general", "reload", "conf")]
    assert links.network_managers(world.facts()).finding is Finding.OK


def test_networkd_is_a_warning_only_if_a_rule_takes_every_interface(world) -> None:
    world.process(10, "systemd-network")
    world.file("etc/systemd/network/10-own.network", "[Match]\nName=ens5\n\n[Network]\nDHCP=yes\n")
    assert links.network_managers(world.facts()).finding is Finding.OK
    world.file(
        "usr/lib/systemd/network/80-ec2.network", "[Match]\nDriver=ena ixgbevf vif\n\n[Network]\nDHCP=yes\n"
    )
    verdict = links.network_managers(world.facts())
    assert (verdict.finding, "80-ec2.network" in verdict.cause) == (Finding.WARNING, True)
    (world.root / "sys/class/net/ens5").mkdir()
    world.programs["networkctl"] = Done(0, "")
    assert verdict.fix is not None
    links.network_managers(world.facts()).fix.apply()  # type: ignore[union-attr]
    assert "Name=!lo ens5\n" in (world.root / links.NETWORKD_DROP_IN).read_text()
    assert links.network_managers(world.facts()).finding is Finding.OK


def test_a_program_that_cannot_be_told_leaves_the_file_and_says_so(world) -> None:
    world.process(10, "NetworkManager")
    verdict = links.network_managers(world.facts())
    assert verdict.fix is not None
    with pytest.raises(CannotFix, match="is written; it counts after"):
        verdict.fix.apply()


def test_dhcpcd_and_amazons_tools_are_told_and_not_touched(world) -> None:
    world.process(10, "dhcpcd")
    world.file("usr/lib/udev/rules.d/99-vpc-policy-routes.rules", "SUBSYSTEM==net\n")
    verdict = links.network_managers(world.facts())
    assert verdict.finding is Finding.WARNING
    assert verdict.fix is None
    assert "dhcpcd" in verdict.cause
    assert "Amazon's network tools" in verdict.cause
    world.file("etc/dhcpcd.conf", "allowinterfaces ens5\n")
    world.file("etc/udev/rules.d/99-vpc-policy-routes.rules", "")
    assert links.network_managers(world.facts()).finding is Finding.OK


def test_inside_a_container_no_file_of_the_machine_is_written(world) -> None:
    world.process(10, "NetworkManager")
    world.environ = {"BERTH_IN_CONTAINER": "true"}
    verdict = links.network_managers(world.facts())
    assert (verdict.finding, verdict.fix) == (Finding.WARNING, None)


def a_task(world) -> None:
    world.file("sys/class/net/veth1/ifalias", f"ecs:{SANDBOX}:ecs-bridge:ecs-eth0\n")
    (world.root / "sys/class/net/ecs-bridge/brif/veth1").mkdir(parents=True)
    world.process(50, "pause", f"0::/ecs/task/{SANDBOX}\n")


def test_without_tasks_there_is_no_view_to_take(world) -> None:
    with pytest.raises(NotApplicable):
        links.imds_exposure(world.facts())


def test_a_task_whose_routes_refuse_the_metadata_service_is_well(world) -> None:
    a_task(world)
    world.ways = {"fd00:ec2::254": Way("", "there is no route")}
    verdict = links.imds_exposure(world.facts())
    assert (verdict.finding, verdict.cause) == (Finding.OK, "refused in all 1 tasks")


def test_a_task_that_has_a_way_to_the_metadata_service_is_a_problem_unless_it_was_chosen(world) -> None:
    a_task(world)
    world.ways = {"169.254.169.254": Way("eth0")}
    verdict = links.imds_exposure(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "169.254.169.254 through eth0 of process 50" in verdict.cause
    world.choose(block_imds=False)
    assert links.imds_exposure(world.facts()).finding is Finding.WARNING


def test_what_leaves_by_the_link_to_the_agent_is_dropped_by_its_rules(world) -> None:
    a_task(world)
    world.ways = {"169.254.169.254": Way("ecs-eth0")}
    assert links.imds_exposure(world.facts()).finding is Finding.OK
