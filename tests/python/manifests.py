"""Validates Kubernetes manifests against Kubernetes' own schemas, and prints them for a test to look into.

    manifests.py FILE...          a line of JSON for each document: its file and itself

Strictly (an unknown field is an error), for the first version that starts native sidecars without being asked and for the newest known.
"""

import json
import sys

import kubernetes_validate
import yaml

FIRST = "1.29"


class Strict(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one; here it is an error."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{twice} stands twice{node.start_mark}")
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)

if not sys.argv[1:]:
    sys.exit(__doc__)
for path in sys.argv[1:]:
    with open(path) as file:
        for document in yaml.load_all(file, Strict):
            for version in [FIRST, kubernetes_validate.latest_version()]:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    place = "/".join(str(part) for part in error.path)
                    sys.exit(f"{path}: {document['kind']}, Kubernetes {version}: {place}: {error.message}")
            print(json.dumps({"file": path, "document": document}))
