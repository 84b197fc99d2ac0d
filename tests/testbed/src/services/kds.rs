//! AMD's key distribution service (AMD 57230, section 4).

use std::ops::Deref;

use super::{Answer, Ask, Served, Service, hex};
use crate::snp::{Line, SoftPlatform, Tcb};
use crate::tdx::pem;

/// A key distribution service for some soft machines. It has the certificate of each of their TCB versions.
pub struct Kds(Served<Vec<SoftPlatform>>);

impl Kds {
    /// Serves what these machines have; chains and lists are those of the first of a line.
    #[must_use]
    pub fn start(platforms: Vec<SoftPlatform>) -> Self {
        Self(Served::start(platforms, |platforms, ask| serve(platforms, ask)))
    }

    /// Serves what these machines have from now on.
    pub fn replace(&self, platforms: Vec<SoftPlatform>) {
        self.0.change(|served| *served = platforms);
    }
}

impl Deref for Kds {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

fn serve(platforms: &[SoftPlatform], ask: &Ask) -> Option<Answer> {
    let [kind, "v1", line, what] = *ask.path.strip_prefix('/')?.split('/').collect::<Vec<_>>() else { return None };
    let mut of_line = platforms.iter().filter(|platform| platform.line.name() == line);
    let body = match (kind, what) {
        ("vcek" | "vlek", "crl") => of_line.next()?.crl_der(&[]),
        ("vcek", "cert_chain") => of_line.next().map(|platform| pem::chain(&[platform.ask_der(), platform.ark_der()]))?.into_bytes(),
        ("vlek", "cert_chain") => of_line.next().map(|platform| pem::chain(&[platform.asvk_der(), platform.ark_der()]))?.into_bytes(),
        ("vcek", chip) => {
            let own = |platform: &&SoftPlatform| {
                let id = if platform.line == Line::Turin { &platform.chip_id[..8] } else { &platform.chip_id };
                hex(id) == chip
            };
            let platform = of_line.find(own)?;
            let spl = |name: &str| ask.parameter(name)?.parse().ok();
            let fmc = if platform.line == Line::Turin { spl("fmcSPL")? } else { 0 };
            let tcb = Tcb { fmc, bootloader: spl("blSPL")?, tee: spl("teeSPL")?, snp: spl("snpSPL")?, microcode: spl("ucodeSPL")? };
            platform.clone().with_tcb(tcb).vcek_der()
        }
        _ => return None,
    };
    Some(Answer { headers: Vec::new(), body })
}
