//! A policy's checks as people read them: one line for what passed; expected, found and what may help for what failed.

use crate::console::{Console, Tone};

/// How a check, or a step, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
}

impl Mark {
    /// Four letters, in colour where there are colours.
    pub(crate) fn paint(self, console: &Console<'_>) -> String {
        match self {
            Self::Passed => console.paint(Tone::Good, "ok  "),
            Self::Failed => console.paint(Tone::Bad, "FAIL"),
        }
    }
}

/// One check.
pub(crate) struct Row<'a> {
    /// Its stable code.
    pub(crate) code: &'a str,
    /// What the policy expects.
    pub(crate) expected: &'a str,
    /// What the claims say.
    pub(crate) found: &'a str,
    /// How it ended.
    pub(crate) mark: Mark,
}

/// Prints checks, their codes aligned.
pub(crate) fn print(rows: &[Row<'_>], console: &mut Console<'_>) {
    let width = rows.iter().map(|row| row.code.len()).max().unwrap_or(0);
    for Row { code, expected, found, mark } in rows {
        let painted = mark.paint(console);
        match mark {
            Mark::Passed => console.line(format!("  {painted}  {code:width$}  {found}")),
            Mark::Failed => {
                console.line(format!("  {painted}  {code:width$}  expected {expected}"));
                console.line(format!("        {:width$}  found    {found}", ""));
                if let Some(known) = policies::codes::find(code) {
                    let hint = console.paint(Tone::Quiet, "hint");
                    console.line(format!("        {:width$}  {hint}     {}", "", known.hint));
                }
            }
        }
    }
}
