//! When each key of the issuer serves: a pure step from keys and time to what is due. A successor is published before it signs; the one
//! before it stays published until longer than the life of all that it signed.
//!
//! ```text
//!            published        signs                  successor signs        retired
//!  first     ├────────────────┤ (at once)            │                      │
//!            key ─────────────────── signs ──────────┼── published ─────────┤
//!  successor                       ├── published ────┼── signs ──── …
//!                                  └─ overlap before ┘
//! ```
//!
//! A key whose use is no longer served, because the configuration has changed, signs no longer from then on, and stays published as long as
//! one that a successor has relieved.

use std::time::Duration;

use protocol::entries::IssuerUse;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

/// How long keys serve, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a key signs.
    pub life: Duration,
    /// How long before it signs a successor is published: longer than anybody keeps a copy of the published keys.
    pub overlap: Duration,
}

/// The service of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The first second at which it signs; it is published before.
    pub signs: UnixTime,
    /// The last second at which it may sign, and at which a CA's certificate holds: twice its life, for a broker that was down when a
    /// successor was due; or when its use was found to have ended.
    pub ends: UnixTime,
}

/// One key, as far as its service is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving<'a> {
    /// What for.
    pub usage: IssuerUse,
    /// Its id.
    pub kid: &'a str,
    /// From when to when.
    pub term: Term,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A key is to be made and published.
    Create {
        /// What for.
        usage: IssuerUse,
        /// From when to when.
        term: Term,
    },
    /// A key signs no longer, though no other takes its place. It stays published.
    End {
        /// Its id.
        kid: String,
        /// The last second at which it may have signed.
        at: UnixTime,
    },
    /// A key is no longer to be published.
    Retire {
        /// What for.
        usage: IssuerUse,
        /// Its id.
        kid: String,
    },
}

/// Added to the life of what a key signed, so that clocks which differ, and a step that comes late, hurt nobody.
const MARGIN: Duration = Duration::from_secs(3600);

/// The longest life of what a key signs: what policies may say.
const fn longest(usage: IssuerUse) -> Duration {
    match usage {
        IssuerUse::X509 => Duration::from_secs(24 * 3600),
        IssuerUse::JwtEs256 | IssuerUse::JwtRs256 | IssuerUse::Result => Duration::from_secs(300),
    }
}

/// Everything that is due `now`. `served` are the uses that there must be a key for; keys of any other use sign no longer, and are retired
/// when nothing lives any more that they signed.
#[must_use]
pub fn due(keys: &[Serving<'_>], served: &[IssuerUse], terms: Terms, now: UnixTime) -> Vec<Due> {
    let mut due: Vec<_> = served.iter().filter_map(|usage| create(keys, *usage, terms, now)).collect();
    due.extend(keys.iter().filter_map(|key| ending(key, keys, served, now)));
    due
}

/// What is due of a key at the end of its service.
fn ending(key: &Serving<'_>, keys: &[Serving<'_>], served: &[IssuerUse], now: UnixTime) -> Option<Due> {
    let Term { signs, ends } = key.term;
    let is_over = if served.contains(&key.usage) {
        is_relieved(key, keys, now)
    } else if signs <= now && now < ends {
        return Some(Due::End { kid: key.kid.to_owned(), at: now });
    } else {
        // It has never signed, or for longer than anything lives no more.
        now < signs || now > ends.plus(outlived(key.usage)) || is_relieved(key, keys, now)
    };
    is_over.then(|| Due::Retire { usage: key.usage, kid: key.kid.to_owned() })
}

/// The first key of a use, or the successor of its newest once that is near the end of its life.
fn create(keys: &[Serving<'_>], usage: IssuerUse, terms: Terms, now: UnixTime) -> Option<Due> {
    let newest = keys.iter().filter(|key| key.usage == usage).map(|key| key.term).max_by_key(|term| term.signs);
    // One that has ended signs no longer: it may be of a use that was not served for a while.
    let newest = newest.filter(|term| now < term.ends);
    let signs = match newest {
        None => now,
        Some(newest) if newest.signs > now => return None,
        Some(newest) => {
            let planned = newest.signs.plus(terms.life);
            if now.plus(terms.overlap) < planned {
                return None;
            }
            // Late: still published for the overlap before it signs, unless its predecessor can sign no longer.
            planned.max(now.plus(terms.overlap)).min(newest.ends)
        }
    };
    let ends = signs.plus(terms.life).plus(terms.life);
    Some(Due::Create { usage, term: Term { signs, ends } })
}

/// How long after a key has signed for the last time it stays published: longer than anything lives that it signed.
fn outlived(usage: IssuerUse) -> Duration {
    longest(usage) + MARGIN
}

/// Whether a later key of the same use has been signing for longer than anything lives that this one signed.
fn is_relieved(key: &Serving<'_>, keys: &[Serving<'_>], now: UnixTime) -> bool {
    let last = outlived(key.usage);
    keys.iter().any(|later| later.usage == key.usage && later.term.signs > key.term.signs && now > later.term.signs.plus(last))
}

/// Which of these keys signs `at` this time: the newest that is to sign by then. A clock that was put back before the first of them
/// does not leave the use without a key.
#[must_use]
pub fn signer<'a, T>(keys: impl Iterator<Item = &'a T> + Clone, term: impl Fn(&T) -> Term, at: UnixTime) -> Option<&'a T> {
    let by_signs = |key: &&'a T| term(key).signs;
    keys.clone().filter(|key| term(key).signs <= at).max_by_key(by_signs).or_else(|| keys.min_by_key(by_signs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const TERMS: Terms = Terms { life: Duration::from_secs(30 * DAY), overlap: Duration::from_secs(7 * DAY) };
    const START: u64 = 1_800_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(START + seconds)
    }

    /// Keys by name, as an issuer would hold them.
    #[derive(Default)]
    struct Ring(Vec<(IssuerUse, String, Term)>);

    impl Ring {
        fn due(&self, served: &[IssuerUse], now: UnixTime) -> Vec<Due> {
            let serving: Vec<_> = self.0.iter().map(|(usage, kid, term)| Serving { usage: *usage, kid, term: *term }).collect();
            due(&serving, served, TERMS, now)
        }

        fn step(&mut self, served: &[IssuerUse], now: UnixTime) -> Vec<Due> {
            let due = self.due(served, now);
            for due in &due {
                match due {
                    Due::Create { usage, term } => self.0.push((*usage, format!("{usage:?} {}", now.seconds()), *term)),
                    Due::End { kid, at } => self.0.iter_mut().filter(|(_, other, _)| other == kid).for_each(|(.., term)| term.ends = *at),
                    Due::Retire { kid, .. } => self.0.retain(|(_, other, _)| other != kid),
                }
            }
            due
        }

        fn signs(&self, usage: IssuerUse, now: UnixTime) -> Term {
            signer(self.0.iter().filter(|(other, ..)| *other == usage), |(.., term)| *term, now).unwrap().2
        }
    }

    const X509: &[IssuerUse] = &[IssuerUse::X509];

    #[test]
    fn the_first_key_signs_at_once_and_a_second_step_makes_none() {
        let mut ring = Ring::default();
        let term = Term { signs: at(0), ends: at(60 * DAY) };
        assert_eq!(ring.step(X509, at(0)), [Due::Create { usage: IssuerUse::X509, term }]);
        assert_eq!(ring.step(X509, at(0)), []);
        assert_eq!(ring.signs(IssuerUse::X509, at(0)), term);
    }

    #[test]
    fn a_successor_is_published_for_the_overlap_before_it_signs() {
        let mut ring = Ring::default();
        ring.step(X509, at(0));
        assert_eq!(ring.step(X509, at(23 * DAY - 1)), [], "one second early");
        let term = Term { signs: at(30 * DAY), ends: at(90 * DAY) };
        assert_eq!(ring.step(X509, at(23 * DAY)), [Due::Create { usage: IssuerUse::X509, term }]);
        assert_eq!(ring.step(X509, at(24 * DAY)), [], "one is waiting");
        assert_eq!(ring.signs(IssuerUse::X509, at(30 * DAY - 1)).signs, at(0));
        assert_eq!(ring.signs(IssuerUse::X509, at(30 * DAY)).signs, at(30 * DAY));
    }

    #[test]
    fn what_was_signed_dies_before_its_key_is_retired() {
        for (usage, longest) in [(IssuerUse::X509, DAY), (IssuerUse::JwtEs256, 300), (IssuerUse::Result, 300)] {
            let mut ring = Ring::default();
            ring.step(&[usage], at(0));
            ring.step(&[usage], at(23 * DAY));
            let over = 30 * DAY + longest + HOUR;
            assert_eq!(ring.due(&[usage], at(over)), [], "{usage:?}: longer than the last life and the margin");
            let retired = ring.step(&[usage], at(over + 1));
            assert!(matches!(retired.as_slice(), [Due::Retire { .. }]), "{retired:?}");
            assert_eq!(ring.0.len(), 1);
        }
    }

    #[test]
    fn a_late_successor_is_published_for_the_overlap_all_the_same() {
        let mut ring = Ring::default();
        ring.step(X509, at(0));
        let [Due::Create { term, .. }] = ring.step(X509, at(40 * DAY))[..] else { panic!("one key") };
        assert_eq!(term.signs, at(47 * DAY));
        assert_eq!(ring.signs(IssuerUse::X509, at(47 * DAY - 1)).signs, at(0), "past its life, within its end");
    }

    #[test]
    fn after_the_end_of_the_last_key_the_next_signs_at_once() {
        for (now, signs) in [(55 * DAY, 60 * DAY), (60 * DAY, 60 * DAY), (61 * DAY, 61 * DAY)] {
            let mut ring = Ring::default();
            ring.step(X509, at(0));
            let [Due::Create { term, .. }] = ring.step(X509, at(now))[..] else { panic!("one key") };
            assert_eq!(term.signs, at(signs));
        }
    }

    #[test]
    fn a_clock_that_is_put_back_changes_nothing_and_leaves_a_signer() {
        let mut ring = Ring::default();
        ring.step(X509, at(0));
        let before = UnixTime::from_seconds(START - DAY);
        assert_eq!(ring.step(X509, before), []);
        assert_eq!(ring.signs(IssuerUse::X509, before).signs, at(0));
    }

    const BOTH: &[IssuerUse] = &[IssuerUse::JwtEs256, IssuerUse::JwtRs256];
    /// Of a token's life and the margin.
    const OUTLIVED: u64 = 300 + HOUR;

    #[test]
    fn a_key_whose_use_is_no_longer_served_is_retired_when_all_that_it_signed_is_over() {
        let mut ring = Ring::default();
        ring.step(BOTH, at(0));
        let ended = ring.step(&BOTH[..1], at(DAY));
        assert!(matches!(ended.as_slice(), [Due::End { at: last, .. }] if *last == at(DAY)), "{ended:?}");
        // However often is looked meanwhile, that is not put off.
        for now in [DAY, DAY + 1, DAY + HOUR, DAY + OUTLIVED] {
            assert_eq!(ring.step(&BOTH[..1], at(now)), [], "{now}: what it signed last may still live, by somebody's clock");
        }
        let retired = ring.step(&BOTH[..1], at(DAY + OUTLIVED + 1));
        assert!(matches!(retired.as_slice(), [Due::Retire { usage: IssuerUse::JwtRs256, .. }]), "{retired:?}");
        assert_eq!(ring.0.len(), 1);
    }

    #[test]
    fn a_key_that_waits_for_a_use_that_is_no_longer_served_has_signed_nothing_and_goes_at_once() {
        let mut ring = Ring::default();
        ring.step(BOTH, at(0));
        assert_eq!(ring.step(BOTH, at(23 * DAY)).len(), 2);
        let due = ring.step(&BOTH[..1], at(24 * DAY));
        assert!(matches!(due.as_slice(), [Due::End { .. }, Due::Retire { usage: IssuerUse::JwtRs256, .. }]), "{due:?}");
    }

    #[test]
    fn a_use_that_is_served_again_gets_a_key_of_its_own_beside_the_one_that_ended() {
        let mut ring = Ring::default();
        ring.step(BOTH, at(0));
        ring.step(&BOTH[..1], at(DAY));
        let [Due::Create { usage: IssuerUse::JwtRs256, term }] = ring.step(BOTH, at(DAY + 60))[..] else { panic!("one key") };
        assert_eq!((term.signs, ring.signs(IssuerUse::JwtRs256, at(DAY + 60))), (at(DAY + 60), term));
        let count = |ring: &Ring| ring.0.iter().filter(|(usage, ..)| *usage == IssuerUse::JwtRs256).count();
        assert_eq!(ring.step(BOTH, at(DAY + 60 + OUTLIVED)), []);
        assert_eq!(count(&ring), 2);
        assert_eq!(ring.step(BOTH, at(DAY + 61 + OUTLIVED)).len(), 1);
        assert_eq!((count(&ring), ring.signs(IssuerUse::JwtRs256, at(2 * DAY))), (1, term));
    }

    #[test]
    fn years_of_hourly_steps_always_have_a_signer_and_never_more_than_three_keys() {
        let mut ring = Ring::default();
        for hour in 0..3 * 365 * 24 {
            let now = at(hour * HOUR);
            for due in ring.step(X509, now) {
                if let Due::Create { term, .. } = due
                    && hour > 0
                {
                    assert_eq!(term.signs.since(now), TERMS.overlap, "published for the whole overlap");
                }
            }
            let term = ring.signs(IssuerUse::X509, now);
            assert!(term.signs <= now && now.since(term.signs) <= TERMS.life);
            assert!(ring.0.len() <= 2, "at most one is waiting or going");
        }
    }
}
