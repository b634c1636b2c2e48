"""Annotations in both dialects, and what they declare."""

import base64
import json

from rpcregistry.dialects import read

PLAIN = {"rpc-service": "true"}
KEY_VALUE = {"app.io/label": "app.io-value"}


# What users read of a bad name, and of a bad text.
NAME_RULE = (
    "is not a service name: 1 to 253 of A-Z a-z 0-9 . _ $ -,"
    ' the first of them a letter or a digit, and not "zookeeper"'
)
TEXT_RULE = "is not a text of at most 256 bytes without control characters"


def plain(text):
    return read(PLAIN, {"rpc-service": text})


def entries(*entries):
    return plain(json.dumps(entries))


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def key_value(*entries):
    return read(KEY_VALUE, {"app.io/annotation": encoded(json.dumps(entries))})


def messages(problems):
    assert {problem.reason for problem in problems} <= {"InvalidAnnotation"}
    return [problem.message for problem in problems]
