"""What the `spiffe` package, as it is published, learns from a Workload API: who it is, by what others are believed, and a token.

Takes the socket and an audience; prints one JSON object. With a third argument it waits, after the first answer, for the certificate
to be replaced, and says so.
"""

import json
import sys
import time

from spiffe import JwtSvid, TrustDomain, WorkloadApiClient, X509Source

socket, audience = sys.argv[1:3]
client = WorkloadApiClient(f"unix://{socket}")
svid = client.fetch_x509_svid()
bundles = client.fetch_x509_bundles()
domain = TrustDomain(str(svid.spiffe_id.trust_domain))
token = client.fetch_jwt_svid(audience={audience})
jwt_bundles = client.fetch_jwt_bundles()
# Verified twice: by the package itself, and by the other end of the socket.
parsed = JwtSvid.parse_and_validate(token.token, jwt_bundles.get_bundle_for_trust_domain(domain), {audience})
validated = client.validate_jwt_svid(token.token, audience)
found = {
    "id": str(svid.spiffe_id),
    "serial": format(svid.leaf.serial_number, "x"),
    "authorities": len(bundles.get_bundle_for_trust_domain(domain).x509_authorities),
    "token": str(token.spiffe_id),
    "parsed": str(parsed.spiffe_id),
    "validated": str(validated.spiffe_id),
}
if len(sys.argv) > 3:
    with X509Source(socket_path=f"unix://{socket}", timeout_in_seconds=30) as source:
        first = source.get_x509_context().default_svid.leaf.serial_number
        print("watching", file=sys.stderr, flush=True)
        until = time.monotonic() + 60
        while source.get_x509_context().default_svid.leaf.serial_number == first and time.monotonic() < until:
            time.sleep(0.05)
        found["rotated"] = source.get_x509_context().default_svid.leaf.serial_number != first
client.close()
print(json.dumps(found))
