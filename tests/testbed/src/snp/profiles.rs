//! AMD's certificate profiles: what KDS writes into each certificate of a line, and the committed key behind each authority.

use std::sync::OnceLock;

use super::certificates::{Certificate, Issuer, Name, oid};
use super::platform::{Authority, Leaf, Line, Root, SoftPlatform};
use crate::der;
use crate::rsa::{PssParameters, RsaKey};
use crate::x509::{BasicConstraints, SignatureState, authority_key_value, distribution_point_value};

impl SoftPlatform {
    pub(super) fn authority_name(&self, authority: Authority) -> Name {
        let line = self.line.name();
        Name::amd(&match authority {
            Authority::Ark => format!("ARK-{line}"),
            Authority::Ask => format!("SEV-{line}"),
            Authority::Asvk => format!("SEV-VLEK-{line}"),
        })
    }

    pub(super) fn authority_certificate(&self, authority: Authority) -> Certificate {
        let key = self.authority_key(authority);
        let ark = self.authority_key(Authority::Ark);
        let list = if authority == Authority::Asvk { "vlek" } else { "vcek" };
        let mut certificate = Certificate {
            version: 2,
            serial: self.serial(authority),
            issuer: self.authority_name(Authority::Ark),
            subject: self.authority_name(authority),
            valid: self.validity.authorities,
            public_key: key.public_key_info(),
            extensions: Vec::new(),
            parameters: PssParameters::AMD,
            inner_algorithm: None,
            outer_algorithm: None,
            signer: Issuer(ark),
            signature: SignatureState::Genuine,
        };
        if authority == Authority::Ark {
            certificate.set_key_usage(&[5, 6]);
            certificate.set(oid::SUBJECT_KEY, der::octet_string(&key.key_identifier()));
            certificate.set_basic_constraints(BasicConstraints::Authority);
        } else {
            certificate.set(oid::SUBJECT_KEY, der::octet_string(&key.key_identifier()));
            certificate.set(oid::AUTHORITY_KEY, authority_key_value(&ark.key_identifier()));
            certificate.set_basic_constraints(BasicConstraints::PathLength(0));
            certificate.set_key_usage(&[5]);
        }
        let address = format!("https://kdsintf.amd.com/{list}/v1/{}/crl", self.line.name());
        certificate.set(oid::CRL_POINTS, distribution_point_value(&address));
        certificate
    }

    pub(super) fn leaf_certificate(&self, leaf: Leaf) -> Certificate {
        let (issuer, common_name) = match leaf {
            Leaf::Vcek => (Authority::Ask, "SEV-VCEK"),
            Leaf::Vlek => (Authority::Asvk, "SEV-VLEK"),
        };
        let point = self.leaf_key(leaf).verifying_key().to_sec1_point(false);
        let curve = der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid("1.3.132.0.34")]);
        let mut certificate = Certificate {
            version: 2,
            serial: 0,
            issuer: self.authority_name(issuer),
            subject: Name::amd(common_name),
            valid: self.validity.leaves,
            public_key: der::sequence(&[&curve, &der::bit_string(point.as_bytes())]),
            extensions: Vec::new(),
            parameters: PssParameters::AMD_WITHOUT_TRAILER,
            inner_algorithm: None,
            outer_algorithm: None,
            signer: Issuer(self.authority_key(issuer)),
            signature: SignatureState::Genuine,
        };
        self.describe_chip(&mut certificate, leaf);
        certificate
    }

    /// AMD's extensions in the order in which KDS writes them for this line.
    fn describe_chip(&self, certificate: &mut Certificate, leaf: Leaf) {
        certificate.set_level(oid::STRUCT_VERSION, u8::from(self.line == Line::Turin));
        certificate.set_product_name(if leaf == Leaf::Vcek { &self.product_name } else { self.line.name() });
        let levels: &[(&str, u8)] = match self.line {
            Line::Milan | Line::Genoa => &[
                (oid::BOOTLOADER, self.tcb.bootloader),
                (oid::TEE, self.tcb.tee),
                (oid::SPL_4, 0),
                (oid::SPL_5, 0),
                (oid::SPL_6, 0),
                (oid::SPL_7, 0),
                (oid::SNP, self.tcb.snp),
            ],
            Line::Turin => &[
                (oid::FMC, self.tcb.fmc),
                (oid::BOOTLOADER, self.tcb.bootloader),
                (oid::TEE, self.tcb.tee),
                (oid::SNP, self.tcb.snp),
                (oid::SPL_5, 0),
                (oid::SPL_6, 0),
                (oid::SPL_7, 0),
            ],
        };
        for (oid, level) in levels {
            certificate.set_level(oid, *level);
        }
        certificate.set_level(oid::MICROCODE, self.tcb.microcode);
        match leaf {
            Leaf::Vcek => certificate.set_hwid(if self.line == Line::Turin { &self.chip_id[..8] } else { &self.chip_id }),
            Leaf::Vlek => certificate.set_csp_id(&self.csp_id),
        }
    }
}

/// The committed key of an authority. The other hierarchy has one set of keys for all lines.
pub(super) fn authority_key(root: Root, line: Line, authority: Authority) -> &'static RsaKey {
    macro_rules! key {
        ($file:literal) => {{
            static KEY: OnceLock<RsaKey> = OnceLock::new();
            KEY.get_or_init(|| RsaKey::from_der(include_bytes!(concat!("../../keys/test-", $file, ".rsa.der"))))
        }};
    }
    match (root, line, authority) {
        (Root::Trusted, Line::Milan, Authority::Ark) => key!("milan-ark"),
        (Root::Trusted, Line::Milan, Authority::Ask) => key!("milan-ask"),
        (Root::Trusted, Line::Milan, Authority::Asvk) => key!("milan-asvk"),
        (Root::Trusted, Line::Genoa, Authority::Ark) => key!("genoa-ark"),
        (Root::Trusted, Line::Genoa, Authority::Ask) => key!("genoa-ask"),
        (Root::Trusted, Line::Genoa, Authority::Asvk) => key!("genoa-asvk"),
        (Root::Trusted, Line::Turin, Authority::Ark) => key!("turin-ark"),
        (Root::Trusted, Line::Turin, Authority::Ask) => key!("turin-ask"),
        (Root::Trusted, Line::Turin, Authority::Asvk) => key!("turin-asvk"),
        (Root::Other, _, Authority::Ark) => key!("other-ark"),
        (Root::Other, _, Authority::Ask) => key!("other-ask"),
        (Root::Other, _, Authority::Asvk) => key!("other-asvk"),
    }
}
