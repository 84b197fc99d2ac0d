//! What others can make happen as often as they like is counted, and told once a second: else they would write the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One code is told once in this time.
const EVERY: Duration = Duration::from_secs(1);

/// What was told last of each code.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<BTreeMap<&'static str, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Seldom {
    /// It has happened. If it is to be told now: how often it has since it was told last, this time not counted.
    pub fn happened(&self, code: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(code) {
            Some(last) if now.saturating_duration_since(last.at) < EVERY => {
                last.untold = last.untold.saturating_add(1);
                None
            }
            last => {
                let untold = last.map_or(0, |last| last.untold);
                told.insert(code, Told { at: now, untold: 0 });
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::Arc;

    /// How long anything may take: generous, because machines are busy.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// What this thread logs.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        /// What each line with this message says was not told.
        fn untold(&self, message: &str) -> Vec<u64> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.filter(|line| line["fields"]["message"] == message).map(|line| line["fields"]["untold"].as_u64().unwrap()).collect()
        }
    }

    /// That what is `refused` is told of by lines with this message once a second, and that they leave none out: however often others make
    /// that happen. On a runtime of one thread.
    pub(crate) async fn assert_told_seldom(message: &str, mut refused: impl AsyncFnMut()) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let (began, mut times) = (Instant::now(), 0);
        while times < 49 {
            refused().await;
            times += 1;
        }
        let told = loop {
            refused().await;
            times += 1;
            // Whoever comes a second after the last line is told, and with that how many came between.
            tokio::time::sleep(EVERY + Duration::from_millis(100)).await;
            let told = log.untold(message);
            if u64::try_from(told.len()).unwrap() + told.iter().sum::<u64>() == times {
                break told;
            }
            assert!(began.elapsed() < PATIENCE, "{times} times: {told:?}");
        };
        assert!(u64::try_from(told.len()).unwrap() <= began.elapsed().as_secs() + 1, "{told:?}");
    }

    #[test]
    fn each_code_is_told_once_a_second_with_how_often_it_was_not() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(seldom.happened("caller-user", at(0)), Some(0));
        assert_eq!((0..1000).filter_map(|millis| seldom.happened("caller-user", at(millis))).count(), 0);
        assert_eq!(seldom.happened("caller-cgroup", at(999)), Some(0), "another is another matter");
        assert_eq!(seldom.happened("caller-user", at(1000)), Some(1000));
        assert_eq!(seldom.happened("caller-user", at(5000)), Some(0));
    }
}
