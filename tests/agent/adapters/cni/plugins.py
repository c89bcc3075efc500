"""A directory of fake plugins: small shell scripts that behave, or misbehave as a test wants."""

import json
import shutil
from pathlib import Path

FRAME = """#!/bin/sh
case "$1" in
--capabilities) echo '{{"capabilities":["awsvpc-network-mode"]}}'; exit 0 ;;
--version) echo '{{"version":"1.2.3","dirty":false,"gitShortHash":"abcdef0"}}'; exit 0 ;;
esac
world={world}
name={name}
mine=$world/$CNI_CONTAINERID.$name
net=$world/sys/class/net
port=veth$(printf %.8s $CNI_CONTAINERID)
cat > $world/stdin.$name.$CNI_COMMAND
env > $world/env.$name.$CNI_COMMAND
echo "$CNI_COMMAND $name $CNI_IFNAME" >> $world/calls
case "$CNI_COMMAND" in
ADD)
{add}
;;
DEL)
{delete}
;;
VERSION)
{version}
;;
GC)
{collect}
;;
esac
"""

ADD_ENI = """touch $mine
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"dns":{}}'"""

# A lease is a directory, since making one is atomic.
ADD_BRIDGE = """if [ -f $mine ]; then
  echo '{"code":100,"msg":"ecs-eth0 already exists"}'
  exit 1
fi
n=2
until mkdir $world/lease.$n 2>/dev/null; do n=$((n + 1)); done
echo $n > $mine
mkdir -p $net/$port $net/ecs-bridge/brif/$port
echo "ecs:$CNI_CONTAINERID:$name:$CNI_IFNAME" > $net/$port/ifalias
echo "{\\"cniVersion\\":\\"1.0.0\\",\\"ips\\":[{\\"address\\":\\"169.254.172.$(cat $mine)/22\\"}],\\"dns\\":{}}" """

DELETE = "rm -f $mine"
DELETE_BRIDGE = """rm -rf $net/ecs-bridge/brif/$port $net/$port
if [ -f $mine ]; then rmdir $world/lease.$(cat $mine); rm -f $mine; fi"""

VERSION = """echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}'"""
COLLECT_BRIDGE = """for mine in $world/*.$name; do
  [ -f $mine ] || continue
  id=$(basename $mine .$name)
  grep -q "$id" $world/stdin.$name.GC && continue
  port=veth$(printf %.8s $id)
  rm -rf $net/ecs-bridge/brif/$port $net/$port $world/lease.$(cat $mine) $mine
done"""


class PluginDirectory:
    """Three plugins that behave. ``become`` replaces one; ``calls`` tells what was called, in order."""

    def __init__(self, root: Path) -> None:
        self.path = root / "plugins"
        self.world = root / "world"
        self.path.mkdir()
        self.world.mkdir()
        self.heal()

    def heal(self) -> None:
        self.become("ecs-eni", add=ADD_ENI, delete=DELETE)
        self.become("ecs-bridge", add=ADD_BRIDGE, delete=DELETE_BRIDGE)
        self.become("ecs-ipam", add=DELETE, delete=DELETE)

    def become(
        self,
        name: str,
        *,
        add: str | None = None,
        delete: str | None = None,
        version: str = VERSION,
        collect: str | None = None,
    ) -> None:
        usual = {"ecs-eni": (ADD_ENI, DELETE), "ecs-bridge": (ADD_BRIDGE, DELETE_BRIDGE)}.get(
            name, ("exit 1", DELETE)
        )
        text = FRAME.format(
            world=self.world,
            name=name,
            add=add or usual[0],
            delete=delete or usual[1],
            version=version,
            collect=collect or (COLLECT_BRIDGE if name == "ecs-bridge" else ":"),
        )
        self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        # Aside and renamed: a script that is being written cannot be executed.
        aside = self.path / f".{name}"
        aside.write_text(text)
        aside.chmod(0o755)
        aside.rename(self.path / name)
        return self.path / name

    def copy(self, name: str, source: Path) -> None:
        shutil.copy2(source, self.path / name)

    def calls(self) -> list[str]:
        path = self.world / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def stdin(self, name: str, command: str) -> dict:
        return json.loads((self.world / f"stdin.{name}.{command}").read_text())

    def environment(self, name: str, command: str) -> dict[str, str]:
        lines = (self.world / f"env.{name}.{command}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def attached(self, container_id: str) -> list[str]:
        return sorted(path.name.rpartition(".")[2] for path in self.world.glob(f"{container_id}.*"))

    @property
    def sys_root(self) -> Path:
        """Looks like /sys as far as the ports of the bridge are concerned."""
        return self.world / "sys"

    def ports(self) -> list[str]:
        return sorted(path.name for path in self.sys_root.glob("class/net/ecs-bridge/brif/*"))
