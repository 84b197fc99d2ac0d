//! Intel's certificate profiles: what stands in each certificate of the hierarchy, and the key behind each.

use p256::ecdsa::SigningKey;

use super::certificates::{Certificate, Name, oid};
use super::keys;
use super::platform::{PckAuthority, Role, Root, SoftTdx};
use super::sgx::{PlatformPart, SgxExtension};
use crate::der;
use crate::x509::{BasicConstraints, Extension, SignatureState, authority_key_value, distribution_point_value};

const ROOT_LIST: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

impl SoftTdx {
    /// Intel's own name for this role.
    #[must_use]
    pub fn name(&self, role: Role) -> Name {
        Name::intel(match role {
            Role::Root => "Intel SGX Root CA",
            Role::PckAuthority(PckAuthority::Platform) => "Intel SGX PCK Platform CA",
            Role::PckAuthority(PckAuthority::Processor) => "Intel SGX PCK Processor CA",
            Role::Pck => "Intel SGX PCK Certificate",
            Role::TcbSigner => "Intel SGX TCB Signing",
        })
    }

    /// The role that issues this one's certificate.
    #[must_use]
    pub fn issuer(&self, role: Role) -> Role {
        match role {
            Role::Root | Role::PckAuthority(_) | Role::TcbSigner => Role::Root,
            Role::Pck => Role::PckAuthority(self.authority),
        }
    }

    /// The private key of this role. Intel derives a PCK from the processor and its TCB; so does this.
    #[must_use]
    pub fn key(&self, role: Role) -> SigningKey {
        let root: &[u8] = match self.root {
            Root::Trusted => b"trusted",
            Root::Other => b"other",
        };
        match role {
            Role::Root => keys::derived(&[root, b"root"]),
            Role::PckAuthority(PckAuthority::Platform) => keys::derived(&[root, b"pck platform"]),
            Role::PckAuthority(PckAuthority::Processor) => keys::derived(&[root, b"pck processor"]),
            Role::TcbSigner => keys::derived(&[root, b"tcb signer"]),
            Role::Pck => {
                keys::derived(&[root, b"pck", &self.ppid, &self.fmspc, &self.components, &self.pce_id, &self.pce_svn.to_be_bytes()])
            }
        }
    }

    /// The serial number of this role's certificate, big-endian: the key's identifier, as Intel has it for all but PCKs.
    #[must_use]
    pub fn serial(&self, role: Role) -> Vec<u8> {
        keys::key_identifier(&self.key(role)).to_vec()
    }

    /// The SGX extension that this platform's PCK certificate has.
    #[must_use]
    pub fn sgx_extension(&self) -> SgxExtension {
        let platform = PlatformPart {
            instance: self.platform_instance,
            dynamic_platform: self.dynamic_platform,
            cached_keys: self.cached_keys,
            smt_enabled: self.smt_enabled,
        };
        SgxExtension {
            ppid: self.ppid,
            components: self.components.map(u64::from).to_vec(),
            pce_svn: self.pce_svn.into(),
            cpu_svn: self.components.to_vec(),
            pce_id: self.pce_id.to_vec(),
            fmspc: self.fmspc.to_vec(),
            sgx_type: 1,
            platform: (self.authority == PckAuthority::Platform).then_some(platform),
            more: Vec::new(),
            more_in_tcb: Vec::new(),
            more_in_configuration: Vec::new(),
            without: Vec::new(),
            instead: Vec::new(),
        }
    }

    /// This role's certificate before it is signed.
    #[must_use]
    pub fn certificate(&self, role: Role) -> Certificate {
        let issuer = self.issuer(role);
        let (key, signer) = (self.key(role), self.key(issuer));
        let list = match (role, self.authority) {
            (Role::Pck, PckAuthority::Platform) => pck_list("platform"),
            (Role::Pck, PckAuthority::Processor) => pck_list("processor"),
            _ => ROOT_LIST.to_owned(),
        };
        let mut certificate = Certificate {
            version: 2,
            serial: self.serial(role),
            issuer: self.name(issuer),
            subject: self.name(role),
            valid: if role == Role::Pck { self.validity.pck } else { self.validity.authorities },
            public_key: keys::public_key_info(&key),
            extensions: vec![
                Extension::new(oid::AUTHORITY_KEY, authority_key_value(&keys::key_identifier(&signer))),
                Extension::new(oid::CRL_POINTS, distribution_point_value(&list)),
                Extension::new(oid::SUBJECT_KEY, der::octet_string(&keys::key_identifier(&key))),
            ],
            inner_algorithm: None,
            outer_algorithm: None,
            signer,
            signature: SignatureState::Genuine,
        };
        let (usage, constraints): (&[u8], _) = match role {
            Role::Root => (&[5, 6], BasicConstraints::PathLength(1)),
            Role::PckAuthority(_) => (&[5, 6], BasicConstraints::PathLength(0)),
            Role::Pck | Role::TcbSigner => (&[0, 1], BasicConstraints::NotAuthority),
        };
        certificate.set_key_usage(usage);
        certificate.set_basic_constraints(constraints);
        if role == Role::Pck {
            certificate.set(oid::SGX, self.sgx_extension().der());
        }
        certificate
    }
}

fn pck_list(authority: &str) -> String {
    format!("https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca={authority}&encoding=der")
}
