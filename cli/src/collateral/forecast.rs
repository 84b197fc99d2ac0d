//! `portcullis collateral forecast`: which platforms will be denied, and when.

use clap::Args;
use protocol::admin::{CollateralForecast, ForecastDenial, ForecastPlatform};
use protocol::time::UnixTime;

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Outcome};
use crate::records::Form;

/// List which platforms seen lately will be denied, and when
///
/// The broker remembers the platforms of the last 30 days, and asks the policies that decided about them, with the collateral that it
/// holds now, what they say no to and from when on: a TCB whose time runs out, a status that is not accepted, collateral that grows too
/// old. What a broker with an upstream renews by itself is in the list too. Checks on the guest, such as on its measurement, are not.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis collateral forecast --broker https://broker.example.com --token-file token")]
pub(crate) struct Forecast {
    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl Forecast {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let forecast = self.admin.connect()?.forecast()?;
        match Form::of(self.json) {
            Form::Json => console.json(&forecast),
            Form::Text => print(&forecast, console),
        }
        Ok(Exit::Done)
    }
}

fn print(forecast: &CollateralForecast, console: &mut Console<'_>) {
    if forecast.platforms.is_empty() {
        console.note(format!("no platform was seen since {}", forecast.since));
        return;
    }
    let rows: Vec<Vec<String>> = forecast.platforms.iter().flat_map(|platform| rows(platform, forecast.at, console)).collect();
    console.table(&["PLATFORM", "MACHINE", "LAST SEEN", "POLICY", "DENIED FROM", "BECAUSE"], &rows);
}

/// One row for each denial; what stands in the row above is not said again.
fn rows(
    ForecastPlatform { platform, machine, seen, policy, denials }: &ForecastPlatform,
    at: UnixTime,
    console: &Console<'_>,
) -> Vec<Vec<String>> {
    let policy = format!("{} version {}", policy.name, policy.version);
    let first = [platform.to_string(), machine.clone(), seen.to_string(), policy];
    let row = |place: usize, from: String, because: String| {
        let own = if place == 0 { first.clone() } else { Default::default() };
        own.into_iter().chain([from, because]).collect()
    };
    if denials.is_empty() {
        return vec![row(0, console.paint(Tone::Good, "not in sight"), String::new())];
    }
    let denial = |(place, denial): (usize, &ForecastDenial)| {
        let tone = if denial.from <= at { Tone::Bad } else { Tone::Warning };
        row(place, console.paint(tone, &denial.from.to_string()), format!("{}: {}", denial.check, denial.why))
    };
    denials.iter().enumerate().map(denial).collect()
}

#[cfg(test)]
mod tests {
    use protocol::admin::PolicyReference;
    use protocol::ids::{Digest, Platform, Version};

    use super::*;
    use crate::console::Style;

    fn platform(machine: &str, denials: Vec<ForecastDenial>) -> ForecastPlatform {
        let policy = PolicyReference { name: "inference".parse().unwrap(), version: Version::FIRST, document: Digest::from([0; 32]) };
        ForecastPlatform { platform: Platform::Tdx, machine: machine.to_owned(), seen: UnixTime::from_seconds(0), policy, denials }
    }

    #[test]
    fn a_forecast_says_of_each_platform_when_and_why() {
        let denial = |from, check: &str, why: &str| ForecastDenial {
            from: UnixTime::from_seconds(from),
            check: check.to_owned(),
            why: why.to_owned(),
        };
        let denials = vec![
            denial(86_400, "tdx-collateral-age", "the TCB info is too old"),
            denial(172_800, "tdx-tcb-grace", "the period of grace ends"),
        ];
        let at = UnixTime::from_seconds(0);
        let forecast = CollateralForecast { at, since: at, platforms: vec![platform("one", denials), platform("other", Vec::new())] };
        let mut out = Vec::new();
        print(&forecast, &mut Console::new(&mut out, std::io::sink(), Style::Plain));
        let expected = "\
PLATFORM  MACHINE  LAST SEEN             POLICY               DENIED FROM           BECAUSE
tdx       one      1970-01-01T00:00:00Z  inference version 1  1970-01-02T00:00:00Z  tdx-collateral-age: the TCB info is too old
                                                              1970-01-03T00:00:00Z  tdx-tcb-grace: the period of grace ends
tdx       other    1970-01-01T00:00:00Z  inference version 1  not in sight
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
