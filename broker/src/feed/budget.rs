//! How many fetches callers may cause. What an unverified guest says of its platform (chip, TCB version, FMSPC) is for it to
//! choose, and each new one costs a request to the vendor, who throttles. So each client network has a budget, and all of them
//! together have one. An ordinary IPv6 allotment is thousands of client networks, so each allotment has one too: a quarter of
//! what all have.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::moment::Moment;

/// Networks of a kind whose budget is kept apart; beyond it nobody new is served until others are forgotten.
const NETWORKS: usize = 16_384;
/// The span of the budgets, in seconds.
const HOUR: u64 = 3600;
/// What one IPv6 allotment may have of what all have: one in so many.
const ALLOTMENTS: u32 = 4;

/// A bucket of permissions that fills up again within an hour.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    most: u32,
    /// Permissions left, in 3600ths, as of `at`.
    left: u64,
    at: Moment,
}

impl Bucket {
    fn full(most: u32, at: Moment) -> Self {
        Self { most, left: u64::from(most) * HOUR, at }
    }

    fn fill(&mut self, at: Moment) {
        let most = u64::from(self.most);
        self.left = self.left.saturating_add(at.since(self.at).as_secs().saturating_mul(most)).min(most * HOUR);
        self.at = at.max(self.at);
    }

    fn is_full(&self) -> bool {
        self.left >= u64::from(self.most) * HOUR
    }

    /// Seconds until there is one permission.
    fn wait(&self) -> u64 {
        HOUR.saturating_sub(self.left).div_ceil(u64::from(self.most.max(1)))
    }
}

/// The buckets of networks of a kind.
#[derive(Debug)]
struct Networks {
    most: u32,
    buckets: HashMap<IpAddr, Bucket>,
}

impl Networks {
    fn new(most: u32) -> Self {
        Self { most, buckets: HashMap::new() }
    }

    /// The bucket of a network, as of now. `None`: too many are kept apart.
    fn bucket(&mut self, network: IpAddr, at: Moment) -> Option<&mut Bucket> {
        if self.buckets.len() >= NETWORKS && !self.buckets.contains_key(&network) {
            self.buckets.retain(|_, bucket| {
                bucket.fill(at);
                !bucket.is_full()
            });
            if self.buckets.len() >= NETWORKS {
                return None;
            }
        }
        let bucket = self.buckets.entry(network).or_insert_with(|| Bucket::full(self.most, at));
        bucket.fill(at);
        Some(bucket)
    }
}

/// The budgets.
#[derive(Debug)]
pub struct Budget {
    clients: Networks,
    allotments: Networks,
    all: Bucket,
}

/// There is nothing left: seconds until there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent(pub u64);

impl Budget {
    /// So many fetches an hour, for one client network and for all together. An allotment has a quarter of the latter, and no less
    /// than one client.
    #[must_use]
    pub fn new(per_client: u32, in_all: u32) -> Self {
        let per_allotment = (in_all / ALLOTMENTS).max(per_client);
        let all = Bucket::full(in_all, Moment::default());
        Self { clients: Networks::new(per_client), allotments: Networks::new(per_allotment), all }
    }

    /// Takes a fetch from each budget, or from none.
    ///
    /// # Errors
    /// [`Spent`].
    pub fn take(&mut self, client: IpAddr, at: Moment) -> Result<(), Spent> {
        self.all.fill(at);
        let mut buckets = vec![&mut self.all, self.clients.bucket(client, at).ok_or(Spent(HOUR))?];
        if let Some(allotment) = allotment(client) {
            buckets.push(self.allotments.bucket(allotment, at).ok_or(Spent(HOUR))?);
        }
        match buckets.iter().map(|bucket| bucket.wait()).max() {
            Some(wait) if wait > 0 => Err(Spent(wait)),
            _ => {
                buckets.into_iter().for_each(|bucket| bucket.left -= HOUR);
                Ok(())
            }
        }
    }
}

/// What a site of IPv6 is given as a rule: the 48-bit prefix (RFC 6177). An IPv4 address is all that its client has.
fn allotment(client: IpAddr) -> Option<IpAddr> {
    match client {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn at(seconds: u64) -> Moment {
        Moment::default().plus(Duration::from_secs(1_000_000 + seconds))
    }

    /// The `number`th 64-bit network of the `site`th allotment.
    fn v6(site: u16, number: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, site, number, 0, 0, 0, 0).into()
    }

    #[test]
    fn a_client_has_its_budget_and_gets_it_back_within_an_hour() {
        let mut budget = Budget::new(2, 100);
        assert_eq!([budget.take(ONE, at(0)), budget.take(ONE, at(0))], [Ok(()); 2]);
        assert_eq!(budget.take(ONE, at(0)), Err(Spent(1800)));
        assert_eq!(budget.take(TWO, at(0)), Ok(()), "another client is not hurt");
        assert_eq!(budget.take(ONE, at(1799)), Err(Spent(1)));
        assert_eq!(budget.take(ONE, at(1800)), Ok(()));
        assert_eq!([budget.take(ONE, at(99_999)), budget.take(ONE, at(99_999))], [Ok(()); 2]);
        assert_eq!(budget.take(ONE, at(99_999)), Err(Spent(1800)), "what is not used does not add up");
    }

    #[test]
    fn all_clients_together_have_a_budget() {
        let mut budget = Budget::new(2, 3);
        let takes = [(ONE, Ok(())), (TWO, Ok(())), (ONE, Ok(())), (TWO, Err(Spent(1200)))];
        for (client, expected) in takes {
            assert_eq!(budget.take(client, at(0)), expected);
        }
        assert_eq!(budget.take(TWO, at(1200)), Ok(()));
    }

    #[test]
    fn an_allotment_of_ipv6_has_a_quarter_of_what_all_have_however_many_networks_it_makes() {
        let mut budget = Budget::new(2, 40);
        let taken = (0..100).filter(|number| budget.take(v6(1, *number), at(0)).is_ok()).count();
        assert_eq!(taken, 10);
        assert_eq!(budget.take(v6(1, 200), at(0)), Err(Spent(360)));
        assert_eq!(budget.take(v6(2, 0), at(0)), Ok(()), "another allotment is not hurt");
        assert_eq!(budget.take(ONE, at(0)), Ok(()), "nor is IPv4");
        assert_eq!(budget.take(v6(1, 200), at(360)), Ok(()));
        let v4 = |number: u32| budget.take(IpAddr::V4((0xc633_6400 + number).into()), at(360)).is_ok();
        assert_eq!((0..100).map(v4).filter(|taken| *taken).count(), 40 - 13 + 4, "neighbours of IPv4 have nothing in common but the whole");
    }

    #[test]
    fn an_allotment_has_no_less_than_one_client() {
        let mut budget = Budget::new(3, 4);
        assert_eq!([0; 3].map(|number| budget.take(v6(1, number), at(0))), [Ok(()); 3]);
        assert_eq!(budget.take(v6(1, 1), at(0)), Err(Spent(1200)));
    }

    #[test]
    fn the_tables_of_networks_do_not_grow_without_end() {
        let mut budget = Budget::new(1, u32::MAX);
        for number in 0..20_000_u32 {
            let _ = budget.take(IpAddr::V4(number.into()), at(0));
        }
        assert_eq!(budget.clients.buckets.len(), NETWORKS);
        assert_eq!(budget.take(ONE, at(0)), Err(Spent(HOUR)));
        assert_eq!(budget.take(ONE, at(3600)), Ok(()), "who has its whole budget again is forgotten");
        assert_eq!(budget.clients.buckets.len(), 1);
        for number in 0..20_000 {
            let _ = budget.take(v6(number, 0), at(7200));
        }
        assert_eq!((budget.clients.buckets.len(), budget.allotments.buckets.len()), (NETWORKS, NETWORKS));
    }
}
