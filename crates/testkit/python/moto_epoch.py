"""moto_server whose App Mesh metadata the Rust SDK can read: `python3 moto_epoch.py -H 127.0.0.1 -p 0`.

moto tells App Mesh times as formatted text, which the SDK's deserialiser refuses, and gives all resources one
creation time and one uid, because its dataclass evaluates the defaults once. AWS tells seconds since 1970, and
each resource has its own. Arguments are those of moto_server.
"""

import functools
import sys
from datetime import datetime
from uuid import uuid4

from moto.appmesh import models
from moto.appmesh.dataclasses import shared
from moto.server import main

ACCOUNT = "123456789012"


class Seconds(datetime):
    """A moment that prints as a number of seconds wherever moto formats it."""

    def strftime(self, _):
        return round(self.timestamp(), 3)


def with_own_values(make):
    """Wraps a metadata constructor so that nothing is shared between resources."""

    @functools.wraps(make)
    def init(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.uid = str(uuid4())
        self.mesh_owner = self.resource_owner = ACCOUNT
        self.created_at = self.last_updated_at = Seconds.now()

    return init


shared.datetime = Seconds
for name in ("Metadata", "RouteMetadata", "GatewayRouteMetadata", "VirtualNodeMetadata", "VirtualGatewayMetadata"):
    kind = getattr(models, name)
    kind.__init__ = with_own_values(kind.__init__)

if __name__ == "__main__":
    sys.exit(main())
