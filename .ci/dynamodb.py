"""A DynamoDB for tests: moto, made fit for servers that write at once.

    python .ci/dynamodb.py PORT_FILE

Listens on a free port of this machine, which it writes to PORT_FILE, and keeps everything in memory until it is ended.
What moto does otherwise:

* It carries out requests side by side, and undoes a failed transaction by putting back the whole table, with what
  others have written meanwhile. Here one request is carried out after the other.
* For that it copies the whole table before each transaction. Here it copies the items that the transaction names.
"""

import copy
import os
import sys
import threading
from collections import defaultdict

from moto.dynamodb import models
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ONE_AT_A_TIME = threading.Lock()
TOUCHED = threading.local()


class Copies:
    """Stands in for the module `copy` where moto copies tables."""

    copy = staticmethod(copy.copy)

    @staticmethod
    def deepcopy(what):
        if not isinstance(what, Table):
            return copy.deepcopy(what)
        table = copy.copy(what)
        table.items = defaultdict(dict, what.items)
        for key in TOUCHED.keys:
            hash_key = DynamoType(key[what.hash_key_attr])
            if hash_key in what.items:
                table.items[hash_key] = dict(what.items[hash_key])
        for key in TOUCHED.keys:
            hash_key, range_key = DynamoType(key[what.hash_key_attr]), DynamoType(key[what.range_key_attr])
            items = table.items.get(hash_key, {})
            if range_key in items:
                items[range_key] = copy.deepcopy(items[range_key])
        return table


def transact_write_items(self, transact_items, carry_out=models.DynamoDBBackend.transact_write_items):
    operations = [next(iter(item.values())) for item in transact_items]
    TOUCHED.keys = [operation.get("Key") or operation["Item"] for operation in operations]
    return carry_out(self, transact_items)


models.copy = Copies
models.DynamoDBBackend.transact_write_items = transact_write_items


class Handler(MotoRequestHandler):
    def log(self, *_args):
        pass


class App(DomainDispatcherApplication):
    def __call__(self, environ, start_response):
        with ONE_AT_A_TIME:
            return super().__call__(environ, start_response)


server = make_server("127.0.0.1", 0, App(create_backend_app), threaded=True, request_handler=Handler)
with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
    file.write(str(server.port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
