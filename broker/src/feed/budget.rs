//! How many fetches callers may cause. What an unverified guest says of its platform (chip, TCB version, FMSPC) is for it to
//! choose, and each new one costs a request to the vendor, who throttles. So each client network has a budget, and all of them
//! together have one.

use std::collections::HashMap;
use std::net::IpAddr;

use protocol::time::UnixTime;

/// Client networks whose budget is kept apart; beyond it nobody new is served until others are forgotten.
const CLIENTS: usize = 16_384;
/// The span of the budgets.
const HOUR: u64 = 3600;

/// A bucket of permissions that fills up again within an hour.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Permissions left, in 3600ths, as of `at`.
    left: u64,
    at: u64,
}

impl Bucket {
    const fn full(most: u32, at: u64) -> Self {
        Self { left: widen(most) * HOUR, at }
    }

    fn fill(&mut self, most: u32, at: u64) {
        let gained = at.saturating_sub(self.at).saturating_mul(widen(most));
        *self = Self { left: self.left.saturating_add(gained).min(widen(most) * HOUR), at: at.max(self.at) };
    }

    /// Seconds until there is one permission.
    const fn wait(&self, most: u32) -> u64 {
        HOUR.saturating_sub(self.left).div_ceil(if most == 0 { 1 } else { widen(most) })
    }
}

const fn widen(number: u32) -> u64 {
    number as u64
}

/// The budgets.
#[derive(Debug)]
pub struct Budget {
    per_client: u32,
    in_all: u32,
    all: Bucket,
    clients: HashMap<IpAddr, Bucket>,
}

/// There is nothing left: seconds until there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent(pub u64);

impl Budget {
    /// So many fetches an hour, for one client network and for all together.
    #[must_use]
    pub fn new(per_client: u32, in_all: u32) -> Self {
        Self { per_client, in_all, all: Bucket::full(in_all, 0), clients: HashMap::new() }
    }

    /// Takes a fetch from both budgets, or from neither.
    ///
    /// # Errors
    /// [`Spent`].
    pub fn take(&mut self, client: IpAddr, at: UnixTime) -> Result<(), Spent> {
        let (at, per_client) = (at.seconds(), self.per_client);
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, bucket| {
                bucket.fill(per_client, at);
                bucket.left < widen(per_client) * HOUR
            });
            if self.clients.len() >= CLIENTS {
                return Err(Spent(HOUR));
            }
        }
        let own = self.clients.entry(client).or_insert_with(|| Bucket::full(per_client, at));
        own.fill(per_client, at);
        self.all.fill(self.in_all, at);
        if own.left < HOUR {
            return Err(Spent(own.wait(per_client)));
        }
        if self.all.left < HOUR {
            return Err(Spent(self.all.wait(self.in_all)));
        }
        own.left -= HOUR;
        self.all.left -= HOUR;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(1_800_000_000 + seconds)
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
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut budget = Budget::new(1, 100);
        assert_eq!(budget.take(ONE, at(5000)), Ok(()));
        assert_eq!(budget.take(ONE, at(0)), Err(Spent(3600)));
    }

    #[test]
    fn the_table_of_clients_does_not_grow_without_end() {
        let mut budget = Budget::new(1, u32::MAX);
        for number in 0..20_000_u32 {
            let _ = budget.take(IpAddr::V4(number.into()), at(0));
        }
        assert_eq!(budget.clients.len(), CLIENTS);
        assert_eq!(budget.take(ONE, at(3600)), Ok(()), "who has its whole budget again is forgotten");
        assert_eq!(budget.clients.len(), 1);
    }
}
