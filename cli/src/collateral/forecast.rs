//! `portcullis collateral forecast`: which platforms will be denied, and when.

use clap::Args;
use protocol::admin::{CollateralForecast, ForecastPlatform};

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Outcome};
use crate::records::Form;

/// List which platforms seen lately will be denied, and when
///
/// The broker remembers what the evidence of each platform last said, and asks the policies that decided about it from when on
/// they will say no as things stand: a TCB whose time runs out, collateral that grows too old.
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
    let rows: Vec<Vec<String>> = forecast.platforms.iter().map(|platform| row(platform, console)).collect();
    console.table(&["PLATFORM", "MACHINE", "LAST SEEN", "POLICY", "DENIED FROM", "BECAUSE"], &rows);
}

fn row(platform: &ForecastPlatform, console: &Console<'_>) -> Vec<String> {
    let (from, because) = match &platform.denied {
        None => (console.paint(Tone::Good, "not in sight"), String::new()),
        Some(denial) => (console.paint(Tone::Bad, &denial.from.to_string()), format!("{}: {}", denial.check, denial.why)),
    };
    let policy = format!("{} version {}", platform.policy.name, platform.policy.version);
    vec![platform.platform.to_string(), platform.machine.clone(), platform.seen.to_string(), policy, from, because]
}

#[cfg(test)]
mod tests {
    use protocol::admin::{ForecastDenial, PolicyReference};
    use protocol::ids::{Digest, Platform, Version};
    use protocol::time::UnixTime;

    use super::*;
    use crate::console::Style;

    fn platform(machine: &str, denied: Option<ForecastDenial>) -> ForecastPlatform {
        let policy = PolicyReference { name: "inference".parse().unwrap(), version: Version::FIRST, document: Digest::from([0; 32]) };
        ForecastPlatform { platform: Platform::Tdx, machine: machine.to_owned(), seen: UnixTime::from_seconds(0), policy, denied }
    }

    #[test]
    fn a_forecast_says_of_each_platform_when_and_why() {
        let denial = ForecastDenial {
            from: UnixTime::from_seconds(86_400),
            check: "tdx-collateral-age".to_owned(),
            why: "the TCB info is too old".to_owned(),
        };
        let at = UnixTime::from_seconds(0);
        let forecast = CollateralForecast { at, since: at, platforms: vec![platform("one", Some(denial)), platform("other", None)] };
        let mut out = Vec::new();
        print(&forecast, &mut Console::new(&mut out, std::io::sink(), Style::Plain));
        let expected = "\
PLATFORM  MACHINE  LAST SEEN             POLICY               DENIED FROM           BECAUSE
tdx       one      1970-01-01T00:00:00Z  inference version 1  1970-01-02T00:00:00Z  tdx-collateral-age: the TCB info is too old
tdx       other    1970-01-01T00:00:00Z  inference version 1  not in sight
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
