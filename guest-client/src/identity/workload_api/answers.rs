//! What is known of an identity, as the Workload API's messages, and what is not, as its statuses.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use protocol::spiffe::Bundle;
use tonic::Status;

use super::generated::{JwtBundlesResponse, Jwtsvid, X509BundlesResponse, X509svid, X509svidResponse};
use crate::identity::view::{Identity, NoToken, Standing, Token};
use crate::report::plain;

/// How deep claims may be nested, which a verified token's are not.
const DEPTH: usize = 16;

/// The one X.509-SVID, its key and every bundle.
pub fn x509_svids(identity: &Identity) -> X509svidResponse {
    let x509 = &identity.x509;
    let svid = X509svid {
        spiffe_id: identity.id.to_string(),
        x509_svid: x509.certificates.concat(),
        x509_svid_key: x509.key.to_vec(),
        bundle: authorities(identity.bundles.own()),
        hint: String::new(),
    };
    let federated = identity.bundles.federated().map(|bundle| (key(bundle), authorities(bundle))).collect();
    X509svidResponse { svids: vec![svid], crl: Vec::new(), federated_bundles: federated }
}

/// The authorities of every trust domain.
pub fn x509_bundles(identity: &Identity) -> X509BundlesResponse {
    let bundles = identity.bundles.all().map(|bundle| (key(bundle), authorities(bundle))).collect();
    X509BundlesResponse { crl: Vec::new(), bundles }
}

/// The keys of every trust domain's tokens, as JWK sets.
pub fn jwt_bundles(identity: &Identity) -> JwtBundlesResponse {
    let set = |bundle: &Bundle| serde_json::json!({ "keys": bundle.jwt_authorities() }).to_string().into_bytes();
    JwtBundlesResponse { bundles: identity.bundles.all().map(|bundle| (key(bundle), set(bundle))).collect() }
}

/// One JWT-SVID.
pub fn jwt_svid(identity: &Identity, token: &Token) -> Jwtsvid {
    Jwtsvid { spiffe_id: identity.id.to_string(), svid: token.text(), hint: String::new() }
}

/// A trust domain's name in a map of bundles: its SPIFFE ID.
fn key(bundle: &Bundle) -> String {
    bundle.trust_domain().id()
}

/// Concatenated DER.
fn authorities(bundle: &Bundle) -> Vec<u8> {
    bundle.x509_authorities().concat()
}

/// Why there is no identity.
pub fn without_identity(standing: &Standing) -> Status {
    match standing {
        Standing::Denied(denied) => Status::permission_denied(format!("the broker refuses the identity: {}", plain(&denied.code))),
        Standing::Unknown | Standing::Rejected(_) | Standing::Identified(_) => {
            Status::unavailable("the broker has not said yet who this workload is")
        }
    }
}

/// Why there is no token.
pub fn without_token(error: &NoToken) -> Status {
    let words = plain(&error.to_string());
    match error {
        NoToken::Denied(_) | NoToken::Audience(_) => Status::permission_denied(words),
        NoToken::Busy => Status::resource_exhausted(words),
        NoToken::Unknown | NoToken::Outage | NoToken::Ending => Status::unavailable(words),
    }
}

/// A JSON object as a `google.protobuf.Struct`; `None` where it is nested too deep.
pub fn claims(object: &serde_json::Value) -> Option<Struct> {
    fields(object.as_object()?, DEPTH)
}

fn fields(object: &serde_json::Map<String, serde_json::Value>, depth: usize) -> Option<Struct> {
    let fields: Option<BTreeMap<String, Value>> =
        object.iter().map(|(name, found)| Some((name.clone(), value(found, depth.checked_sub(1)?)?))).collect();
    Some(Struct { fields: fields? })
}

fn value(found: &serde_json::Value, depth: usize) -> Option<Value> {
    let kind = match found {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(found) => Kind::BoolValue(*found),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64()?),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(values) => {
            let deeper = depth.checked_sub(1)?;
            let values: Option<Vec<Value>> = values.iter().map(|found| value(found, deeper)).collect();
            Kind::ListValue(ListValue { values: values? })
        }
        serde_json::Value::Object(object) => Kind::StructValue(fields(object, depth)?),
    };
    Some(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic::Code;

    use super::*;
    use crate::identity::view::Denied;

    #[test]
    fn workloads_are_told_no_only_where_the_broker_says_so_itself() {
        let no = || Arc::new(Denied { code: "snp-signature".into(), found: String::new(), hint: String::new(), decision: None });
        assert_eq!(without_identity(&Standing::Denied(no())).code(), Code::PermissionDenied);
        assert_eq!(without_identity(&Standing::Rejected(no())).code(), Code::Unavailable);
        assert_eq!(without_identity(&Standing::Unknown).code(), Code::Unavailable);
    }

    #[test]
    fn claims_keep_their_types() {
        let claims_of = |json: serde_json::Value| claims(&json);
        let found = claims_of(serde_json::json!({ "sub": "spiffe://a/b", "exp": 17, "aud": ["x"], "more": { "yes": true, "no": null } }));
        let fields = found.unwrap().fields;
        assert_eq!(fields["exp"].kind, Some(Kind::NumberValue(17.0)));
        assert_eq!(fields["sub"].kind, Some(Kind::StringValue("spiffe://a/b".into())));
        let Some(Kind::ListValue(list)) = &fields["aud"].kind else { panic!("{fields:?}") };
        assert_eq!(list.values.len(), 1);
        let Some(Kind::StructValue(more)) = &fields["more"].kind else { panic!("{fields:?}") };
        assert_eq!(more.fields["yes"].kind, Some(Kind::BoolValue(true)));
    }

    #[test]
    fn claims_that_are_nested_too_deep_are_none() {
        let nested = |depth: usize| (0..depth).fold(serde_json::json!(1), |inner, _| serde_json::json!({ "a": inner }));
        assert!(claims(&nested(DEPTH)).is_some());
        assert!(claims(&nested(DEPTH + 1)).is_none());
    }
}
