//! What the demo prints: a numbered story in short lines, coloured on a terminal only.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// Characters of a line at most, but for commands.
const WIDTH: usize = 100;
/// What stands before everything below a heading.
const INDENT: &str = "   ";
/// Hexadecimal digits in a row that are shown whole.
const SHOWN_DIGITS: usize = 16;

/// What a piece of text means; a terminal shows it as a colour (ECMA-48 SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Refused.
    Bad,
    /// Mind this.
    Warning,
    /// Less important.
    Quiet,
    /// A heading.
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

/// Whether colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Letters only.
    Plain,
    /// Colours.
    Coloured,
}

/// Where the story is printed.
pub struct Page<W> {
    out: W,
    style: Style,
    step: usize,
}

impl Page<io::Stdout> {
    /// Standard output; colours where it is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn stdout() -> Self {
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::new(io::stdout(), if coloured { Style::Coloured } else { Style::Plain })
    }
}

impl<W: Write> Page<W> {
    /// On `out`.
    pub const fn new(out: W, style: Style) -> Self {
        Self { out, style, step: 0 }
    }

    /// A heading with the next number.
    ///
    /// # Errors
    /// [`Failure::Output`], as of every method here.
    pub fn step(&mut self, heading: &str) -> Result<(), Failure> {
        self.step += 1;
        let heading = self.paint(Tone::Strong, &format!("{}. {heading}", self.step));
        self.line(&format!("\n{heading}"))
    }

    /// A heading without a number.
    pub fn heading(&mut self, text: &str) -> Result<(), Failure> {
        let text = self.paint(Tone::Strong, text);
        self.line(&text)
    }

    /// Sentences, broken into lines.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        wrapped(text).iter().try_for_each(|line| self.line(&format!("{INDENT}{line}")))
    }

    /// A sentence that people must not miss.
    pub fn warn(&mut self, text: &str) -> Result<(), Failure> {
        wrapped(text).iter().try_for_each(|line| {
            let line = self.paint(Tone::Warning, line);
            self.line(&format!("{INDENT}{line}"))
        })
    }

    /// A command that was run, as people would type it.
    pub fn command(&mut self, line: &str) -> Result<(), Failure> {
        let line = self.paint(Tone::Quiet, &format!("$ {line}"));
        self.line(&format!("{INDENT}{line}"))
    }

    /// A file's text.
    pub fn file(&mut self, text: &str) -> Result<(), Failure> {
        for line in text.lines().filter(|line| !line.is_empty()) {
            let line = self.paint(Tone::Quiet, &format!("| {}", brief(line)));
            self.line(&format!("{INDENT}{line}"))?;
        }
        Ok(())
    }

    /// One line of what came out of it: a word, and what it is about.
    pub fn result(&mut self, tone: Tone, word: &str, text: &str) -> Result<(), Failure> {
        let word = self.paint(tone, word);
        self.line(&format!("{INDENT}{word}  {}", brief(text)))
    }

    /// A name and a value below a result.
    pub fn detail(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        const BESIDE: usize = 12;
        for (number, line) in wrapped_to(WIDTH - BESIDE, &brief(value)).iter().enumerate() {
            let name = self.paint(Tone::Quiet, &format!("{:8}", if number == 0 { name } else { "" }));
            self.line(&format!("{INDENT}  {name}  {line}"))?;
        }
        Ok(())
    }

    /// One line as it is.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(Failure::Output)
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        match self.style {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code()),
        }
    }
}

/// The text in lines of at most [`WIDTH`] characters with the indent.
fn wrapped(text: &str) -> Vec<String> {
    wrapped_to(WIDTH, text)
}

fn wrapped_to(width: usize, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if INDENT.len() + line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The text with long rows of hexadecimal digits cut short: nobody compares 96 digits by eye.
#[must_use]
pub fn brief(text: &str) -> String {
    let mut brief = String::with_capacity(text.len());
    let mut row = String::new();
    for character in text.chars().chain([' ']) {
        if character.is_ascii_hexdigit() {
            row.push(character);
            continue;
        }
        if row.len() >= 2 * SHOWN_DIGITS {
            brief.extend(row.chars().take(SHOWN_DIGITS));
            brief.push('…');
        } else {
            brief.push_str(&row);
        }
        row.clear();
        brief.push(character);
    }
    brief.pop();
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(style: Style, print: impl FnOnce(&mut Page<&mut Vec<u8>>) -> Result<(), Failure>) -> String {
        let mut out = Vec::new();
        print(&mut Page::new(&mut out, style)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn steps_are_numbered_and_colours_come_only_where_asked_for() {
        let story = |page: &mut Page<&mut Vec<u8>>| {
            page.step("One")?;
            page.step("Two")
        };
        assert_eq!(printed(Style::Plain, story), "\n1. One\n\n2. Two\n");
        assert!(printed(Style::Coloured, story).contains("\u{1b}[1m2. Two\u{1b}[0m"));
    }

    #[test]
    fn sentences_are_broken_between_words_and_digests_cut_short() {
        let text = "word ".repeat(60);
        let lines = wrapped(&text);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() + INDENT.len() <= WIDTH));
        assert_eq!(lines.join(" "), text.trim());
        assert_eq!(brief(&format!("one of {}, or", "ab".repeat(48))), "one of abababababababab…, or");
        assert_eq!(brief("decade 0123456789abcdef"), "decade 0123456789abcdef");
    }
}
