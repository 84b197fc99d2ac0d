"""A cloud's login by a token file, with the clouds' own libraries unchanged: `boto3` for AWS, `google-auth` for Google.

The clouds are endpoints of this script. They know a token's issuer by what it published as files alone: they read
`.well-known/openid-configuration`, follow `jwks_uri` to the key set, and verify signature, issuer, audience and times with PyJWT. Whoever's
token does not verify gets no session.

    clouds.py PUBLISHED ISSUER SUBJECT AWS-TOKEN-FILE GOOGLE-TOKEN-FILE GOOGLE-AUDIENCE FOLDER
"""

import http.server
import json
import os
import pathlib
import sys
import threading
import urllib.parse

import jwt

PUBLISHED, ISSUER, SUBJECT, AWS_FILE, GOOGLE_FILE, GOOGLE_AUDIENCE, FOLDER = sys.argv[1:8]
AWS_AUDIENCE = "sts.amazonaws.com"
SEEN = []


def published(path):
    """A file as a web server at the issuer's URL would serve it."""
    return json.loads((pathlib.Path(PUBLISHED) / path.lstrip("/")).read_text())


def verified(token, audience):
    """The claims of a token, as a relying party verifies it that knows the issuer's URL and nothing else."""
    discovery = published("/.well-known/openid-configuration")
    assert discovery["issuer"] == ISSUER, discovery
    assert discovery["jwks_uri"].startswith(ISSUER + "/"), discovery
    keys = published(discovery["jwks_uri"].removeprefix(ISSUER))["keys"]
    header = jwt.get_unverified_header(token)
    [key] = [key for key in keys if key["kid"] == header["kid"]]
    algorithms = discovery["id_token_signing_alg_values_supported"]
    return jwt.decode(token, jwt.PyJWK(key).key, algorithms=algorithms, issuer=ISSUER, audience=audience, options={"require": ["exp", "iat", "sub"]})


class Cloud(http.server.BaseHTTPRequestHandler):
    """AWS STS and Google STS, as far as a login goes."""

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        try:
            status, kind, body = self.aws(form) if "Action" in form else self.google(form)
        except Exception as error:  # whatever does not verify is refused, and said
            SEEN.append(f"refused: {type(error).__name__}: {error}")
            status, kind, body = 400, "application/json", json.dumps({"error": "invalid_grant", "error_description": str(error)})
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def aws(self, form):
        if form["Action"] == "GetCallerIdentity":
            SEEN.append("aws called as " + self.headers["authorization"].split("Credential=")[1].split("/")[0])
            result = "<Arn>arn:aws:sts::1:assumed-role/research/agent</Arn><UserId>u</UserId><Account>1</Account>"
            return 200, "text/xml", answer("GetCallerIdentity", result)
        claims = verified(form["WebIdentityToken"], AWS_AUDIENCE)
        SEEN.append("aws login of " + claims["sub"])
        credentials = "<AccessKeyId>ASIAAGENT</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        user = "<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/research/agent</Arn><AssumedRoleId>r</AssumedRoleId></AssumedRoleUser>"
        subject = f"<SubjectFromWebIdentityToken>{claims['sub']}</SubjectFromWebIdentityToken>"
        return 200, "text/xml", answer("AssumeRoleWithWebIdentity", f"{subject}{user}<Credentials>{credentials}</Credentials>")

    def google(self, form):
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange", form
        claims = verified(form["subject_token"], GOOGLE_AUDIENCE)
        SEEN.append("google login of " + claims["sub"])
        body = {
            "access_token": "ya29.agent",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        return 200, "application/json", json.dumps(body)

    def log_message(self, *_):
        pass


def answer(action, result):
    return f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>{result}</{action}Result></{action}Response>'


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cloud)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"


def aws(token_file):
    """A call of AWS under a role that the token file opens, as `boto3` makes it by itself from the environment."""
    import boto3
    import botocore.config

    os.environ.update(
        AWS_WEB_IDENTITY_TOKEN_FILE=token_file,
        AWS_ROLE_ARN="arn:aws:iam::1:role/research",
        AWS_ROLE_SESSION_NAME="agent",
        AWS_ENDPOINT_URL_STS=url,
        AWS_DEFAULT_REGION="eu-central-1",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE="/nonexistent",
        AWS_SHARED_CREDENTIALS_FILE="/nonexistent",
    )
    config = botocore.config.Config(retries={"total_max_attempts": 1}, proxies={})
    return boto3.session.Session().client("sts", config=config).get_caller_identity()["Arn"]


def google(token_file):
    """An access token of Google for the token file, by an `external_account` configuration."""
    import google.auth.identity_pool
    import google.auth.transport.requests

    configuration = {
        "type": "external_account",
        "audience": GOOGLE_AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{url}/v1/token",
        "credential_source": {"file": token_file},
    }
    # What google.auth.default() makes of such a file, but that it also asks Google for the project's name.
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = google.auth.identity_pool.Credentials.from_info(configuration, scopes=scopes)
    credentials.refresh(google.auth.transport.requests.Request())
    return credentials.token


def refused(login, token_file):
    """That a login fails."""
    try:
        login(token_file)
    except Exception:
        return True
    return False


os.environ.pop("HTTP_PROXY", None)
os.environ["NO_PROXY"] = "127.0.0.1"
found = {"aws": aws(AWS_FILE), "google": google(GOOGLE_FILE)}
# Near misses: each cloud's token at the other, and a token with a changed claim.
token = pathlib.Path(AWS_FILE).read_text()
head, claims, signature = token.split(".")
forged = pathlib.Path(FOLDER) / "forged"
forged.write_text(".".join([head, claims[:-2] + ("AA" if claims[-2:] != "AA" else "BB"), signature]))
found["swapped"] = refused(aws, GOOGLE_FILE) and refused(google, AWS_FILE)
found["forged"] = refused(aws, str(forged))
found["subject"] = jwt.decode(token, options={"verify_signature": False})["sub"] == SUBJECT
found["seen"] = SEEN
print(json.dumps(found))
