//! Contenders side by side, in rounds.

use std::time::Duration;

/// One of those that are compared.
pub struct Contender<'a> {
    name: &'a str,
    operation: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// An operation with a name.
    pub fn new(name: &'a str, operation: impl FnMut() + 'a) -> Self {
        Self { name, operation: Box::new(operation) }
    }
}

/// What a contender took.
#[derive(Clone, Debug)]
pub struct Result<'a> {
    /// Its name.
    pub name: &'a str,
    /// The median over the rounds, for one operation.
    pub median: Duration,
    /// The fastest and the slowest round, for one operation.
    pub range: (Duration, Duration),
    /// The median over the rounds of its time divided by the first contender's in the same round.
    pub ratio: f64,
}

/// Runs each contender `operations` times a round, for `rounds` rounds, by the clock `now`; the first is what the others are compared with.
/// One round before these warms up.
pub fn side_by_side<'a>(contenders: &mut [Contender<'a>], rounds: usize, operations: u32, now: fn() -> Duration) -> Vec<Result<'a>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = now();
            (0..operations).for_each(|_| (contender.operation)());
            let spent = now().saturating_sub(start).as_secs_f64() / f64::from(operations);
            if round > 0 {
                times.push(spent);
            }
        }
    }
    let first = times.first().cloned().unwrap_or_default();
    let results = contenders.iter().zip(times).map(|(contender, times)| {
        let ratios = times.iter().zip(&first).map(|(time, first)| time / first).collect();
        let fold = |pick: fn(f64, f64) -> f64| Duration::from_secs_f64(times.iter().copied().reduce(pick).unwrap_or(0.0));
        let range = (fold(f64::min), fold(f64::max));
        Result { name: contender.name, range, ratio: median(ratios), median: Duration::from_secs_f64(median(times)) }
    });
    results.collect()
}

/// The middle one of some numbers; 0 of none.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => numbers[middle],
        (_, middle) => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

/// The value below which `share` of some sorted times lie; zero of none.
#[must_use]
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or_default()
}

/// Prints results as a table, in microseconds.
pub fn print(title: &str, results: &[Result<'_>]) {
    println!("\n| {title} | median us | fastest to slowest round us | x the first |\n| --- | ---: | ---: | ---: |");
    for Result { name, median, range: (fastest, slowest), ratio } in results {
        let micros = |time: &Duration| time.as_secs_f64() * 1e6;
        println!("| {name} | {:.1} | {:.1} to {:.1} | {ratio:.3} |", micros(median), micros(fastest), micros(slowest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn quantiles_are_of_the_list() {
        let times: Vec<_> = (0..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&times, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn contenders_are_compared_with_the_first() {
        // A clock that each operation moves: one by a millisecond, the other by three.
        use std::cell::Cell;
        thread_local!(static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) });
        let step = |millis| move || NOW.set(NOW.get() + Duration::from_millis(millis));
        let results = side_by_side(&mut [Contender::new("one", step(1)), Contender::new("three", step(3))], 5, 10, || NOW.get());
        assert_eq!(results.iter().map(|result| result.median.as_millis()).collect::<Vec<_>>(), [1, 3]);
        assert!((results[1].ratio - 3.0).abs() < 1e-9);
    }
}
