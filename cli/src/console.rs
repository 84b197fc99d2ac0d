//! Where commands print: standard output for results, standard error for everything else. Colours only on a terminal.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Exit;

/// Whether escape sequences are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Letters only.
    Plain,
    /// Colours.
    Coloured,
}

/// What a piece of text means; a terminal shows it as a colour.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warning,
    Quiet,
    Strong,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warning => "33",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

/// Whose streams these are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// The process's own: a progress bar may be drawn beside them.
    Process,
    /// A caller's.
    Other,
}

/// Where one command prints.
pub struct Console<'a> {
    out: Box<dyn Write + 'a>,
    err: Box<dyn Write + 'a>,
    style: Style,
    streams: Streams,
    /// The first failure to write to standard output.
    broken: Option<io::Error>,
}

impl<'a> Console<'a> {
    /// The process's own streams; colours where standard output is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn process() -> Self {
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if coloured { Style::Coloured } else { Style::Plain };
        Self { streams: Streams::Process, ..Self::new(io::BufWriter::new(io::stdout()), io::stderr(), style) }
    }

    /// Other streams.
    pub fn new(out: impl Write + 'a, err: impl Write + 'a, style: Style) -> Self {
        Self { out: Box::new(out), err: Box::new(err), style, streams: Streams::Other, broken: None }
    }

    /// Whether there are colours.
    pub(crate) fn is_coloured(&self) -> bool {
        self.style == Style::Coloured
    }

    /// Whether these are the process's own streams.
    pub(crate) fn is_process(&self) -> bool {
        self.streams == Streams::Process
    }

    /// Writes to standard output as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.broken = self.out.write_all(bytes).err();
        }
    }

    /// One line of standard output.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.bytes(text.as_ref().as_bytes());
        self.bytes(b"\n");
    }

    /// A value as JSON on standard output, over several lines.
    pub(crate) fn json(&mut self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(error) => self.broken = self.broken.take().or(Some(error.into())),
        }
    }

    /// A value as JSON on one line of standard output, written at once: an event.
    pub(crate) fn event(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(text),
            Err(error) => self.broken = self.broken.take().or(Some(error.into())),
        }
        self.flush();
    }

    /// Whether nobody reads any more, or nothing can be written.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Hands on what was buffered.
    pub(crate) fn flush(&mut self) {
        if self.broken.is_none() {
            self.broken = self.out.flush().err();
        }
    }

    /// One line of standard error. That it cannot be written is nobody's to learn.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        self.flush();
        let _ = writeln!(self.err, "{}", text.as_ref());
    }

    pub(crate) fn error(&mut self, text: &str) {
        let label = self.paint(Tone::Bad, "error:");
        self.note(format!("{label} {text}"));
    }

    pub(crate) fn warning(&mut self, text: &str) {
        let label = self.paint(Tone::Warning, "warning:");
        self.note(format!("{label} {text}"));
    }

    pub(crate) fn hint(&mut self, text: &str) {
        let label = self.paint(Tone::Quiet, "hint:");
        self.note(format!("{label} {text}"));
    }

    /// `text` in the colour of `tone`, where there are colours.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        match self.style {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code()),
        }
    }

    /// Names and values, aligned.
    pub(crate) fn fields<'t>(&mut self, indent: &str, fields: impl IntoIterator<Item = (&'t str, String)>) {
        let fields: Vec<_> = fields.into_iter().collect();
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in fields {
            let name = self.paint(Tone::Quiet, &format!("{name:width$}"));
            self.line(format!("{indent}{name}  {value}").trim_end());
        }
    }

    /// Rows under a heading, columns aligned; the last column is not padded.
    pub(crate) fn table(&mut self, heading: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = heading.iter().enumerate().map(|(column, name)| width(column).max(name.chars().count())).collect();
        let lay_out = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let heading: Vec<String> = heading.iter().map(|name| (*name).to_owned()).collect();
        let heading = self.paint(Tone::Quiet, &lay_out(&heading));
        self.line(heading);
        for row in rows {
            self.line(lay_out(row));
        }
    }

    /// Ends the command: what could not be written is a failure, but for a reader that went away.
    pub(crate) fn finish(&mut self, exit: Exit) -> Exit {
        self.flush();
        match self.broken.take() {
            None => exit,
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
            Some(error) => {
                self.error(&format!("cannot write to standard output: {error}"));
                Exit::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(style: Style, print: impl FnOnce(&mut Console<'_>)) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err, style);
        print(&mut console);
        console.finish(Exit::Done);
        drop(console);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn columns_align_and_colours_come_only_where_asked_for() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        let (out, _) = printed(Style::Plain, |console| console.table(&["NAME", "V"], &rows));
        assert_eq!(out, "NAME    V\na       1\nlonger  2\n");
        let (_, err) = printed(Style::Plain, |console| console.error("no"));
        assert_eq!(err, "error: no\n");
        let (_, err) = printed(Style::Coloured, |console| console.error("no"));
        assert_eq!(err, "\u{1b}[31merror:\u{1b}[0m no\n");
    }

    struct Full(io::ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_that_cannot_be_written_is_a_failure_unless_the_reader_left() {
        for (kind, expected) in [(io::ErrorKind::StorageFull, Exit::Failed), (io::ErrorKind::BrokenPipe, Exit::Done)] {
            let mut console = Console::new(Full(kind), io::sink(), Style::Plain);
            console.line("result");
            assert_eq!(console.finish(Exit::Done), expected);
        }
    }
}
