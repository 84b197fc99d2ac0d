//! Intel's provisioning certification service, or a caching service in its place (PCS API version 4).

use std::ops::Deref;

use super::{Answer, Ask, Served, Service, hex};
use crate::tdx::{PckAuthority, SoftTdx};

/// A certification service for some soft machines.
pub struct Pcs(Served<Evaluations>);

/// What these machines have, in both evaluations: QE identity and lists are those of the first.
struct Evaluations {
    early: Vec<SoftTdx>,
    /// For whoever does not ask for `update=early`, while a TCB recovery is under way.
    standard: Option<Vec<SoftTdx>>,
}

impl Pcs {
    /// Serves what these machines have; QE identity and lists are those of the first.
    #[must_use]
    pub fn start(platforms: Vec<SoftTdx>) -> Self {
        Self(Served::start(Evaluations { early: platforms, standard: None }, serve))
    }

    /// Serves what these machines have from now on: another evaluation number, another validity.
    pub fn replace(&self, platforms: Vec<SoftTdx>) {
        self.0.change(|evaluations| evaluations.early = platforms);
    }

    /// Serves what these machines have to whoever does not ask for `update=early`, from now on.
    pub fn replace_standard(&self, platforms: Vec<SoftTdx>) {
        self.0.change(|evaluations| evaluations.standard = Some(platforms));
    }
}

impl Deref for Pcs {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

fn serve(evaluations: &Evaluations, ask: &Ask) -> Option<Answer> {
    let platforms = match (ask.parameter("update"), &evaluations.standard) {
        (None | Some("standard"), Some(standard)) => standard,
        (None | Some("early" | "standard"), _) => &evaluations.early,
        (Some(_), _) => return None,
    };
    let first = platforms.first()?;
    let with_chain = |name: &str, chain: &str, body| Answer { headers: vec![(name.to_owned(), encoded(chain))], body };
    match ask.path.as_str() {
        "/tdx/certification/v4/tcb" => {
            let fmspc = ask.parameter("fmspc")?;
            let platform = platforms.iter().find(|platform| platform.fmspc_hex().eq_ignore_ascii_case(fmspc))?;
            Some(with_chain("TCB-Info-Issuer-Chain", &platform.tcb_issuer_chain(), platform.tcb_info_body(|_| ())))
        }
        "/tdx/certification/v4/qe/identity" => {
            Some(with_chain("SGX-Enclave-Identity-Issuer-Chain", &first.tcb_issuer_chain(), first.qe_identity_body(|_| ())))
        }
        "/sgx/certification/v4/pckcrl" => {
            let authority = match ask.parameter("ca")? {
                "platform" => PckAuthority::Platform,
                "processor" => PckAuthority::Processor,
                _ => return None,
            };
            let platform = first.clone().certified_by(authority);
            Some(with_chain("SGX-PCK-CRL-Issuer-Chain", &platform.pck_list_issuer_chain(), platform.pck_list_der(&[])))
        }
        // Caching services write it in hex digits.
        "/sgx/certification/v4/rootcacrl" => Some(Answer { headers: Vec::new(), body: hex(&first.root_list_der(&[])).into_bytes() }),
        _ => None,
    }
}

/// URL-encoded as Intel's service does it: everything but what RFC 3986 leaves unreserved.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
