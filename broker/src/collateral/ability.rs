//! Whether platforms of a vendor could be verified, and until when: by what is held, and by what the policies in force make of its age.

use protocol::time::UnixTime;

use super::{CollateralHouse, Named, Piece, PieceKey, Vendor};

/// Whether some platform of a vendor could be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Yes, by collateral in force.
    InForce,
    /// Yes, by collateral that has lapsed, for a policy in force allows for its age until then.
    Until(UnixTime),
    /// No, and why.
    No(&'static str),
}

/// The last second at which a piece is of use to some policy.
pub type UsableUntil<'a> = &'a (dyn Fn(&Piece) -> UnixTime + Sync);

/// One of several pieces has to be of use.
type Need = (fn(&PieceKey) -> bool, &'static str);

const AMD: &[Need] = &[(|key| matches!(key, PieceKey::AmdCrl(_)), "no revocation list of any product line is in force")];
const INTEL: &[Need] = &[
    (|key| matches!(key, PieceKey::QeIdentity), "no identity of the quoting enclave is in force"),
    (|key| matches!(key, PieceKey::RootCrl), "no revocation list of the root is in force"),
    (|key| matches!(key, PieceKey::PckCrl(_)), "no revocation list of a PCK authority is in force"),
];
const TCB_INFO: Need = (|key| matches!(key, PieceKey::TcbInfo(_)), "no TCB info of any family of platforms is in force");

impl CollateralHouse {
    /// Of each vendor that the configuration names: whether some platform of its could be verified at a time.
    ///
    /// A family's TCB info is fetched when its first guest comes; so where Intel is asked, one that was never held is not missing yet.
    #[must_use]
    pub fn abilities(&self, usable_until: UsableUntil<'_>, at: UnixTime) -> Vec<(Vendor, Ability)> {
        let held = self.held();
        let pieces = || held.pieces.values().map(|piece| &**piece);
        let named = |vendor| match vendor {
            Vendor::Amd => self.vendors.amd == Named::Yes,
            Vendor::Intel => self.vendors.intel == Named::Yes,
        };
        let needs = |vendor| match vendor {
            Vendor::Amd => AMD.to_vec(),
            Vendor::Intel => {
                let fetched = self.vendors.intel_upstream == Named::Yes && !pieces().any(|piece| TCB_INFO.0(&piece.key));
                INTEL.iter().copied().chain((!fetched).then_some(TCB_INFO)).collect()
            }
        };
        let ability = |vendor| {
            let mut lapses = None;
            for (wanted, why) in needs(vendor) {
                let wanted = || pieces().filter(|piece| wanted(&piece.key));
                // A policy may want younger ones than are in force, too.
                let Some(usable) = wanted().map(usable_until).max().filter(|usable| at <= *usable) else { return Ability::No(why) };
                if !wanted().any(|piece| at <= piece.until) {
                    lapses = Some(lapses.map_or(usable, |earlier: UnixTime| earlier.min(usable)));
                }
            }
            lapses.map_or(Ability::InForce, Ability::Until)
        };
        Vendor::ALL.into_iter().filter(|vendor| named(*vendor)).map(|vendor| (vendor, ability(vendor))).collect()
    }
}
