//! What is to be fetched, and when: a plan for each piece, budgets for those that guests cause, and pauses that upstreams ask for.
//!
//! What every guest needs has its plan for good. What one guest asked for has it as long as it is asked for: whoever invents platforms
//! keeps neither the queue full nor the upstream busy.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::Duration;

use super::budget::{Budget, Spent};
use super::moment::{Moment, Passage};
use super::{Failure, LOOK, SOON, Settings, Wanted, pace};
use crate::collateral::{PieceKey, Vendor};
use protocol::time::UnixTime;

/// Plans at most.
const QUEUE: usize = 1024;
/// Requests to one upstream at a time.
const PARALLEL: usize = 4;
/// How long what an upstream does not have is not asked for again.
const ABSENT: Duration = Duration::from_secs(15 * 60);
/// How long the plan for what a guest asked for stays when nobody asks again: guests come back sooner.
const UNWANTED: Duration = Duration::from_secs(15 * 60);
/// After so many answers in a row that are of no use, what a guest asked for counts as not to be had for a while.
const ANSWERS: u32 = 5;

/// All plans.
pub struct Plans {
    plans: HashMap<PieceKey, Plan>,
    budget: Budget,
    /// Until when an upstream is left alone, because it asked for that.
    paused: HashMap<Vendor, Moment>,
    passage: Passage,
}

/// One piece that is to be fetched.
#[derive(Clone, Copy, Debug)]
struct Plan {
    next: Moment,
    state: State,
    failures: u32,
    need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    UnderWay,
    /// The upstream has no such thing; nobody is asked before the plan's time.
    Absent,
    /// What the upstream answers is of no use; nobody is asked before the plan's time.
    Unusable,
}

/// Who needs a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every guest, or each of a family that was seen.
    Standing,
    /// A guest that asked for it last at this moment.
    Guest(Moment),
}

/// What follows from the end of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is asked for again after this.
    Again { failures: u32, wait: Duration },
    /// It counts as not to be had for a while.
    GivenUp,
}

impl Plan {
    const fn is_standing(&self) -> bool {
        matches!(self.need, Need::Standing)
    }

    /// When it was asked for last, where nobody is hurt by its end but who asked: it led to nothing so far, or will lead to nothing.
    const fn dispensable(&self) -> Option<Moment> {
        match (self.need, self.state) {
            (Need::Guest(last), State::Absent | State::Unusable) => Some(last),
            (Need::Guest(last), State::Waiting) if self.failures > 0 => Some(last),
            _ => None,
        }
    }
}

impl Plans {
    pub fn new(settings: &Settings) -> Self {
        let budget = Budget::new(settings.per_client, settings.in_all);
        Self { plans: HashMap::new(), budget, paused: HashMap::new(), passage: Passage::default() }
    }

    /// The moment of a call.
    pub fn moment(&mut self, at: UnixTime) -> Moment {
        self.passage.moment(at)
    }

    fn pause(&self, vendor: Vendor, now: Moment) -> Duration {
        self.paused.get(&vendor).map_or(Duration::ZERO, |until| until.since(now))
    }

    /// What is known of a piece that a guest asks for; `None` where it would be a new fetch.
    pub fn asked(&mut self, key: &PieceKey, now: Moment) -> Option<Wanted> {
        let pause = self.pause(key.vendor(), now);
        let plan = self.plans.get_mut(key)?;
        if let Need::Guest(last) = &mut plan.need {
            *last = now;
        }
        match plan.state {
            State::Waiting | State::UnderWay => Some(Wanted::Coming(plan.next.since(now).max(pause).max(SOON))),
            State::Absent | State::Unusable if plan.next <= now => None,
            State::Absent => Some(Wanted::Absent),
            State::Unusable => Some(Wanted::Unusable),
        }
    }

    /// Plans a fetch on behalf of a client network, and says how long the upstream is left alone before.
    ///
    /// # Errors
    /// [`Spent`]: a budget, or the queue.
    pub fn add(&mut self, key: PieceKey, client: IpAddr, now: Moment) -> Result<Duration, Spent> {
        if self.plans.len() >= QUEUE && !self.plans.contains_key(&key) {
            self.forget_unwanted(now);
        }
        let full = self.plans.len() >= QUEUE && !self.plans.contains_key(&key);
        let oldest = || self.plans.iter().filter_map(|(key, plan)| Some((plan.dispensable()?, *key))).min_by_key(|(last, _)| *last);
        let place = if full { Some(oldest().ok_or(Spent(LOOK.as_secs()))?) } else { None };
        self.budget.take(client, now)?;
        if let Some((_, other)) = place {
            self.plans.remove(&other);
        }
        let fresh = Plan { next: now, state: State::Waiting, failures: 0, need: Need::Guest(now) };
        match self.plans.entry(key) {
            Entry::Vacant(vacant) => drop(vacant.insert(fresh)),
            Entry::Occupied(mut old) => {
                let need = old.get().need;
                old.insert(Plan { need, ..fresh });
            }
        }
        Ok(self.pause(key.vendor(), now))
    }

    /// Ends the plans for what guests asked for and do not ask for any more.
    pub fn forget_unwanted(&mut self, now: Moment) {
        self.plans.retain(|_, plan| match plan.need {
            Need::Guest(last) if plan.state != State::UnderWay => now.since(last) <= UNWANTED,
            _ => true,
        });
    }

    /// Has a plan for what every guest needs. `rest`: how long what is held is good for.
    pub fn stand(&mut self, key: PieceKey, now: Moment, rest: impl FnOnce() -> Duration) {
        let fresh = || Plan { next: now.plus(rest()), state: State::Waiting, failures: 0, need: Need::Standing };
        let plan = self.plans.entry(key).or_insert_with(fresh);
        plan.need = Need::Standing;
        // What every guest needs is asked for again even where it was absent.
        if matches!(plan.state, State::Absent | State::Unusable) && plan.next <= now {
            plan.state = State::Waiting;
        }
    }

    /// Whether a piece is asked for at this moment, or is to be.
    pub fn is_due(&self, key: &PieceKey, now: Moment) -> bool {
        self.plans.get(key).is_some_and(|plan| plan.state == State::UnderWay || (plan.state == State::Waiting && plan.next <= now))
    }

    /// Takes what is due of a vendor, as much as may be asked for at a time, but for what waits for something else.
    pub fn start(&mut self, vendor: Vendor, now: Moment, waits: impl Fn(&Self, &PieceKey) -> bool) -> Vec<PieceKey> {
        if !self.pause(vendor, now).is_zero() {
            return Vec::new();
        }
        let own = self.plans.iter().filter(|(key, _)| key.vendor() == vendor);
        let under_way = own.clone().filter(|(_, plan)| plan.state == State::UnderWay).count();
        let ready = own.filter(|(key, plan)| plan.state == State::Waiting && plan.next <= now && !waits(self, key));
        let mut ready: Vec<_> = ready.map(|(key, plan)| (plan.next, *key)).collect();
        ready.sort_by_key(|(next, _)| *next);
        let started: Vec<_> = ready.into_iter().map(|(_, key)| key).take(PARALLEL.saturating_sub(under_way)).collect();
        for key in &started {
            if let Some(plan) = self.plans.get_mut(key) {
                plan.state = State::UnderWay;
            }
        }
        started
    }

    /// Who needs a piece.
    pub fn need(&self, key: &PieceKey) -> Option<Need> {
        self.plans.get(key).map(|plan| plan.need)
    }

    /// A piece came; the next comes after `rest`, or never.
    pub fn came(&mut self, key: &PieceKey, now: Moment, rest: Option<Duration>) {
        match (self.plans.get_mut(key), rest) {
            (Some(plan), Some(rest)) => *plan = Plan { next: now.plus(rest), state: State::Waiting, failures: 0, need: plan.need },
            _ => drop(self.plans.remove(key)),
        }
    }

    /// A piece did not come, as it turned out now. What follows is decided with a share between zero and one, for jitter.
    pub fn failed(&mut self, key: &PieceKey, failure: &Failure, now: Moment, chance: f64) -> Outlook {
        let mut pause = Duration::ZERO;
        if let Failure::Throttled { wait, .. } = failure {
            pause = *wait;
            // Several were under way: the longest wait that any of them was told counts.
            let until = self.paused.entry(key.vendor()).or_default();
            *until = (*until).max(now.plus(pause));
        }
        let Some(plan) = self.plans.get_mut(key) else { return Outlook::GivenUp };
        plan.failures = plan.failures.saturating_add(1);
        let given_up = match failure {
            Failure::Absent(_) => Some(State::Absent),
            failure if failure.is_an_answer() && !plan.is_standing() && plan.failures >= ANSWERS => Some(State::Unusable),
            _ => None,
        };
        if let Some(state) = given_up {
            *plan = Plan { next: now.plus(ABSENT), state, failures: 0, need: plan.need };
            return Outlook::GivenUp;
        }
        let wait = pace::backoff(plan.failures, chance).max(pause);
        (plan.next, plan.state) = (now.plus(wait), State::Waiting);
        Outlook::Again { failures: plan.failures, wait }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use attestation::ProductLine;

    const LIST: PieceKey = PieceKey::AmdCrl(ProductLine::Genoa);
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn key(number: u16) -> PieceKey {
        let [high, low] = number.to_be_bytes();
        PieceKey::TcbInfo([0, 0, 0, 0, high, low])
    }

    fn plans() -> Plans {
        Plans::new(&Settings { per_client: 10_000, in_all: 10_000, ..Settings::default() })
    }

    fn at(seconds: u64) -> Moment {
        Moment::default().plus(Duration::from_secs(seconds))
    }

    fn start(plans: &mut Plans, now: Moment) -> usize {
        plans.start(Vendor::Intel, now, |_, _| false).len()
    }

    #[test]
    fn a_failed_fetch_that_nobody_wants_any_more_ends_and_one_that_is_wanted_goes_on() {
        let mut plans = plans();
        for number in [1, 2] {
            plans.add(key(number), CLIENT, at(0)).unwrap();
        }
        plans.stand(LIST, at(0), || Duration::ZERO);
        assert_eq!(start(&mut plans, at(0)), 2);
        for number in [1, 2] {
            plans.failed(&key(number), &Failure::Broken, at(0), 0.0);
        }
        assert!(matches!(plans.asked(&key(2), at(1)), Some(Wanted::Coming(_))));
        plans.forget_unwanted(at(900));
        assert_eq!(plans.plans.len(), 3, "it was wanted a quarter of an hour ago");
        plans.forget_unwanted(at(901));
        assert_eq!([key(1), key(2), LIST].map(|key| plans.need(&key)), [None, Some(Need::Guest(at(1))), Some(Need::Standing)]);
        assert_eq!(start(&mut plans, at(901)), 1);
        plans.forget_unwanted(at(9999));
        assert!(plans.need(&key(2)).is_some(), "it is under way");
    }

    #[test]
    fn a_full_queue_takes_nobody_new_but_in_the_place_of_what_led_to_nothing() {
        let mut plans = plans();
        plans.stand(LIST, at(0), || Duration::ZERO);
        for number in 1..1024 {
            plans.add(key(number), CLIENT, at(number.into())).unwrap();
        }
        assert_eq!(plans.add(key(5000), CLIENT, at(800)), Err(Spent(10)), "all of them are on their way");
        assert!(plans.asked(&key(1), at(800)).is_some());
        plans.failed(&LIST, &Failure::Status(500), at(800), 0.0);
        for number in 1..1024 {
            plans.failed(&key(number), &Failure::Status(500), at(800), 0.0);
        }
        assert_eq!(plans.add(key(5000), CLIENT, at(800)), Ok(Duration::ZERO));
        assert_eq!(plans.plans.len(), QUEUE);
        let gone = |number| !plans.plans.contains_key(&key(number));
        assert_eq!([gone(1), gone(2), gone(3)], [false, true, false], "the one that was wanted the longest time ago");
        assert!(plans.need(&LIST).is_some(), "what every guest needs has its place");
    }

    #[test]
    fn what_is_answered_with_nothing_of_use_is_given_up_for_a_while_and_an_outage_is_not() {
        let outage = [Failure::Status(502), Failure::Status(504), Failure::Broken, Failure::Throttled { status: 503, wait: SOON }];
        let answers = [Failure::Status(500), Failure::Status(302), Failure::Form("the answer is empty")];
        for (failure, unusable) in answers.iter().map(|failure| (failure, true)).chain(outage.iter().map(|failure| (failure, false))) {
            let mut plans = plans();
            plans.add(key(1), CLIENT, at(0)).unwrap();
            plans.stand(LIST, at(0), || Duration::ZERO);
            let mut fail = |key| (0..5).map(|_| plans.failed(&key, failure, at(0), 0.0)).filter(|end| *end == Outlook::GivenUp).count();
            assert_eq!([fail(key(1)), fail(LIST)], [usize::from(unusable), 0], "{failure}");
            assert_eq!(plans.asked(&key(1), at(1)) == Some(Wanted::Unusable), unusable, "{failure}");
            assert_eq!(
                plans.asked(&key(1), at(900)).is_none(),
                unusable,
                "{failure}: after a quarter of an hour it would be asked for again"
            );
        }
    }

    #[test]
    fn a_later_and_shorter_wait_does_not_shorten_a_pause() {
        for waits in [[900, 5], [5, 900]] {
            let mut plans = plans();
            for (number, wait) in [1, 2].into_iter().zip(waits) {
                plans.add(key(number), CLIENT, at(0)).unwrap();
                let throttled = Failure::Throttled { status: 429, wait: Duration::from_secs(wait) };
                plans.failed(&key(number), &throttled, at(1), 0.0);
            }
            assert_eq!([at(900), at(901)].map(|now| plans.pause(Vendor::Intel, now).as_secs()), [1, 0]);
            assert_eq!(plans.pause(Vendor::Amd, at(1)), Duration::ZERO, "another vendor is none of it");
        }
    }
}
