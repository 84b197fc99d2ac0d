//! What somebody should look at: an independent reader of evidence whose signatures hold fell out with ours over it, so that one of the two
//! has a fault. What is only ill-formed or badly signed never comes so far.

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use protocol::ids::DecisionId;

/// Raises them, one log line a second for each code: the owner of one platform can send its evidence as often as it likes. Every one is
/// counted, as all rejections are.
pub struct Alarms<C: Clock = DefaultClock>(RateLimiter<&'static str, DefaultKeyedStateStore<&'static str>, C, NoOpMiddleware<C::Instant>>);

impl Default for Alarms {
    fn default() -> Self {
        Self::by(DefaultClock::default())
    }
}

impl<C: Clock> Alarms<C> {
    fn by(clock: C) -> Self {
        Self(RateLimiter::new(Quota::per_second(std::num::NonZeroU32::MIN), DefaultKeyedStateStore::default(), clock))
    }

    /// Raises one, where a rejection calls for it; with the number under which `explain` shows what was found.
    pub fn consider(&self, rejection: &attestation::Rejection, decision: Option<&DecisionId>) {
        let code = rejection.code();
        if rejection.is_of_second_opinion() && self.0.check_key(&code).is_ok() {
            let decision = decision.map(tracing::field::display);
            tracing::error!(
                decision,
                code,
                "ALARM: two independent readers of well-signed evidence fell out over it; one of them has a fault"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use attestation::{Rejection, TdxRejection};
    use governor::clock::FakeRelativeClock;

    use super::*;

    /// What this thread logs.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that a broker with the log level of its default writes.
    fn logged(work: impl FnOnce()) -> Vec<serde_json::Value> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_way_to_fall_out_is_an_error_in_the_log_by_its_code_and_number_and_nothing_else_is() {
        let decision = DecisionId::from([7; 16]);
        let of_second_opinion: [Rejection; 6] = [
            Rejection::SecondOpinion { field: "MEASUREMENT" },
            Rejection::SecondOpinionRefused { why: "why".to_owned() },
            Rejection::SecondOpinionPanicked {},
            TdxRejection::SecondOpinion { field: "MRTD" }.into(),
            TdxRejection::SecondOpinionRefused { why: "why".to_owned() }.into(),
            TdxRejection::SecondOpinionPanicked {}.into(),
        ];
        for rejection in of_second_opinion {
            let lines = logged(|| Alarms::default().consider(&rejection, Some(&decision)));
            let [line] = lines.as_slice() else { panic!("{rejection}: {lines:?}") };
            assert_eq!(line["level"], "ERROR");
            assert_eq!(line["fields"]["code"], rejection.code());
            assert_eq!(line["fields"]["decision"], decision.to_string());
        }
        let others: [Rejection; 2] = [Rejection::NotSigned {}, TdxRejection::QuoteSignature {}.into()];
        assert!(logged(|| others.iter().for_each(|other| Alarms::default().consider(other, Some(&decision)))).is_empty());
    }

    #[test]
    fn a_code_has_one_line_a_second() {
        let clock = FakeRelativeClock::default();
        let alarms = Alarms::by(clock.clone());
        let (snp, tdx) = (Rejection::SecondOpinionPanicked {}, Rejection::from(TdxRejection::SecondOpinionPanicked {}));
        let lines = |rejection: &Rejection| logged(|| (0..100).for_each(|_| alarms.consider(rejection, None))).len();
        assert_eq!((lines(&snp), lines(&tdx), lines(&snp)), (1, 1, 0));
        clock.advance(Duration::from_millis(999));
        assert_eq!(lines(&snp), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!((lines(&snp), lines(&tdx)), (1, 1));
    }
}
