//! Files that run code when they are loaded: Python's pickles, and what carries them.
//!
//! Told by name, because loaders choose by name; and by content, because a loader that is told a file's name tries what it finds.
//! What is not looked for: pickles behind compression or encryption under another name, and other formats that can run code
//! (Python files, which the manifest covers as any file, and layers of Keras).

use std::fmt;

use super::{Plaintext, archive};
use crate::error::SealError;
use crate::path::ModelPath;

/// Bytes of a file's start in which a pickle has to show.
const HEAD: usize = 1024 * 1024;

/// Extensions that loaders take for pickles or for archives of them. `.bin` is PyTorch's oldest habit.
const EXTENSIONS: [&str; 14] = ["bin", "ckpt", "cpkl", "dill", "jbl", "joblib", "mar", "pickle", "pk", "pkl", "pt", "pt2", "pth", "ptl"];

/// Extensions of compressed files: the one before it counts.
const COMPRESSED: [&str; 7] = ["bz2", "gz", "lz4", "lzma", "xz", "z", "zst"];

/// Why a file is taken for a pickle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickleSign {
    /// Its name.
    Extension {
        /// The extension, in lower case.
        found: String,
    },
    /// It starts as a pickle of this protocol.
    Protocol {
        /// 0 to 5; 0 also stands for 1, which starts alike.
        protocol: u8,
    },
    /// A zip archive, such as `torch.save` writes, with a pickle in it.
    Archive {
        /// The pickle's name in it.
        entry: String,
    },
    /// A zip archive whose directory cannot be read, so that nobody can say what is in it.
    UnreadableArchive,
    /// A NumPy array of objects, which are pickled.
    ObjectArray,
}

impl fmt::Display for PickleSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension { found } => write!(f, "named .{found}"),
            Self::Protocol { protocol: 0 } => f.write_str("starts as a pickle"),
            Self::Protocol { protocol } => write!(f, "starts as a pickle of protocol {protocol}"),
            Self::Archive { entry } => write!(f, "an archive with the pickle {}", entry.escape_debug()),
            Self::UnreadableArchive => f.write_str("an archive whose directory cannot be read"),
            Self::ObjectArray => f.write_str("a NumPy array of pickled objects"),
        }
    }
}

/// By the name alone.
#[must_use]
pub fn by_name(path: &ModelPath) -> Option<PickleSign> {
    let name = path.as_str().rsplit('/').next()?;
    extension(name).map(|found| PickleSign::Extension { found })
}

/// The extension that says pickle, in lower case; also where a compression's stands behind it.
pub(crate) fn extension(name: &str) -> Option<String> {
    let mut parts = name.rsplit('.').map(str::to_ascii_lowercase);
    let last = parts.next()?;
    let found = if COMPRESSED.contains(&last.as_str()) { parts.next()? } else { last };
    // A name without a dot has no extension.
    parts.next()?;
    EXTENSIONS.contains(&found.as_str()).then_some(found)
}

/// By the content.
///
/// # Errors
/// The file's own.
pub fn by_content(file: &dyn Plaintext) -> Result<Option<PickleSign>, SealError> {
    let head = file.read(0, HEAD)?;
    if let Some(sign) = by_head(&head) {
        return Ok(Some(sign));
    }
    archive::look(file, head.starts_with(b"PK\x03\x04"))
}

/// By the first bytes.
#[must_use]
pub fn by_head(head: &[u8]) -> Option<PickleSign> {
    if head.starts_with(b"\x93NUMPY") {
        // The header's text names the type of the elements; `O` in it is an object.
        let header = head.get(..head.len().min(4096)).unwrap_or_default();
        return holds_objects(header).then_some(PickleSign::ObjectArray);
    }
    let protocol = match head {
        [0x80, protocol @ 0..=5, ..] => *protocol,
        _ => 0,
    };
    Machine::default().run(head).then_some(PickleSign::Protocol { protocol })
}

/// Whether the description in a NumPy header has a type of objects: `'|O'`, or `'O'` among fields.
fn holds_objects(header: &[u8]) -> bool {
    ["'|O'", "'O'", "\"|O\"", "\"O\"", "|O8"].iter().any(|mark| header.windows(mark.len()).any(|window| window == mark.as_bytes()))
}

/// The argument that follows an opcode (Python's `pickletools` names them so).
enum Argument {
    None,
    Bytes(usize),
    /// Up to a line feed: how many lines, and what they hold.
    Line(Text),
    /// Two lines: a module and a name.
    Names,
    /// Bytes behind their length, which has so many bytes itself, little-endian.
    Counted(usize),
}

/// What a line holds.
enum Text {
    Any,
    Number,
    Quoted,
}

/// What an opcode does to the stack, as far as it matters here.
enum Effect {
    /// Takes and gives so many values.
    Stack(usize, usize),
    /// Opens a group.
    Mark,
    /// Takes the group, and so many values below it, and gives so many.
    Group(usize, usize),
    /// Takes so many, calls what was named, and gives one: the first code that runs.
    Call(usize),
    /// The same with a group.
    CallGroup,
    /// The end.
    Stop,
}

/// Every opcode of protocols 0 to 5.
fn opcode(code: u8) -> Option<(Argument, Effect)> {
    use Argument::{Bytes, Counted, Line, Names, None as Bare};
    use Effect::{Call, CallGroup, Group, Mark, Stack, Stop};
    Some(match code {
        b'(' => (Bare, Mark),
        b'.' => (Bare, Stop),
        b'0' => (Bare, Stack(1, 0)),
        b'1' => (Bare, Group(0, 0)),
        b'2' => (Bare, Stack(1, 2)),
        b'F' | b'I' | b'L' => (Line(Text::Number), Stack(0, 1)),
        b'J' | b'G' => (Bytes(if code == b'J' { 4 } else { 8 }), Stack(0, 1)),
        b'K' => (Bytes(1), Stack(0, 1)),
        b'M' => (Bytes(2), Stack(0, 1)),
        b'N' | b')' | b']' | b'}' | 0x88 | 0x89 | 0x8f | 0x97 => (Bare, Stack(0, 1)),
        b'P' => (Line(Text::Any), Stack(0, 1)),
        b'Q' => (Bare, Stack(1, 1)),
        b'R' | 0x81 => (Bare, Call(2)),
        b'S' => (Line(Text::Quoted), Stack(0, 1)),
        b'T' | b'B' | b'X' => (Counted(4), Stack(0, 1)),
        b'U' | b'C' | 0x8c => (Counted(1), Stack(0, 1)),
        b'V' => (Line(Text::Any), Stack(0, 1)),
        b'a' => (Bare, Stack(2, 1)),
        b'b' => (Bare, Call(2)),
        b'c' => (Names, Stack(0, 1)),
        b'd' | b'l' | b't' | 0x91 => (Bare, Group(0, 1)),
        b'e' | b'u' | 0x90 => (Bare, Group(1, 1)),
        b'g' => (Line(Text::Number), Stack(0, 1)),
        b'h' => (Bytes(1), Stack(0, 1)),
        b'i' => (Names, CallGroup),
        b'j' => (Bytes(4), Stack(0, 1)),
        b'o' => (Bare, CallGroup),
        b'p' => (Line(Text::Number), Stack(1, 1)),
        b'q' => (Bytes(1), Stack(1, 1)),
        b'r' => (Bytes(4), Stack(1, 1)),
        b's' => (Bare, Stack(3, 1)),
        0x80 => (Bytes(1), Stack(0, 0)),
        0x82 => (Bytes(1), Stack(0, 1)),
        0x83 => (Bytes(2), Stack(0, 1)),
        0x84 => (Bytes(4), Stack(0, 1)),
        0x85 => (Bare, Stack(1, 1)),
        0x86 => (Bare, Stack(2, 1)),
        0x87 => (Bare, Stack(3, 1)),
        0x8a => (Counted(1), Stack(0, 1)),
        0x8b => (Counted(4), Stack(0, 1)),
        0x8d | 0x8e | 0x96 => (Counted(8), Stack(0, 1)),
        0x92 => (Bare, Call(3)),
        0x93 => (Bare, Stack(2, 1)),
        0x94 => (Bare, Stack(1, 1)),
        0x95 => (Bytes(8), Stack(0, 0)),
        0x98 => (Bare, Stack(1, 1)),
        _ => return None,
    })
}

/// Walks a pickle's opcodes without running any. Text that happens to start with a few of them soon has one that fits nothing.
#[derive(Default)]
struct Machine {
    depth: usize,
    marks: Vec<usize>,
}

/// How one opcode left the walk.
enum Step {
    On,
    Pickle,
    Not,
}

impl Machine {
    /// Whether the bytes are a pickle: one that calls something, one that ends, or one of protocol 2 or later that goes on behind them.
    fn run(&mut self, bytes: &[u8]) -> bool {
        let framed = matches!(bytes, [0x80, 2..=5, ..]);
        let mut rest = bytes;
        let mut steps = 0_u32;
        loop {
            let Some((code, behind)) = rest.split_first() else { return framed && steps > 1 };
            let Some((argument, effect)) = opcode(*code) else { return false };
            steps = steps.saturating_add(1);
            rest = match skip(behind, &argument) {
                Skip::To(rest) => rest,
                Skip::Beyond => return framed && steps > 1,
                // A line that may go on for ever: where there is more of the file, nobody can say that it is no pickle.
                Skip::Endless => return framed && steps > 1 || bytes.len() >= HEAD,
                Skip::Not => return false,
            };
            match self.step(&effect) {
                Step::On => {}
                Step::Pickle => return framed || steps > 1,
                Step::Not => return false,
            }
        }
    }

    fn step(&mut self, effect: &Effect) -> Step {
        let floor = self.marks.last().copied().unwrap_or(0);
        let Some(above) = self.depth.checked_sub(floor) else { return Step::Not };
        match *effect {
            Effect::Mark => self.marks.push(self.depth),
            Effect::Stack(takes, gives) => {
                if above < takes {
                    return Step::Not;
                }
                self.depth = self.depth.saturating_sub(takes).saturating_add(gives);
            }
            Effect::Group(takes, gives) => {
                let Some(mark) = self.marks.pop() else { return Step::Not };
                let Some(left) = mark.checked_sub(takes) else { return Step::Not };
                self.depth = left.saturating_add(gives);
            }
            Effect::Call(takes) => return if above < takes { Step::Not } else { Step::Pickle },
            Effect::CallGroup => return if self.marks.is_empty() { Step::Not } else { Step::Pickle },
            // One value is left: a pickle that calls nothing. Of a text such as "N." nobody needs to be warned, but a loader takes it.
            Effect::Stop => return if self.depth == 1 && self.marks.is_empty() { Step::Pickle } else { Step::Not },
        }
        Step::On
    }
}

/// Where an argument ends.
enum Skip<'a> {
    To(&'a [u8]),
    /// Behind the bytes at hand.
    Beyond,
    /// In a line that has no end in the bytes at hand, and is such an argument so far.
    Endless,
    /// It is no such argument.
    Not,
}

fn skip<'a>(bytes: &'a [u8], argument: &Argument) -> Skip<'a> {
    let to = |length: usize| bytes.get(length..).map_or(Skip::Beyond, Skip::To);
    match argument {
        Argument::None => Skip::To(bytes),
        Argument::Bytes(length) => to(*length),
        Argument::Counted(width) => {
            let Some(length) = bytes.get(..*width) else { return Skip::Beyond };
            let length = length.iter().rev().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)));
            length.and_then(|length| length.checked_add(*width)).map_or(Skip::Not, to)
        }
        Argument::Line(text) => match line(bytes) {
            Some((found, rest)) if text.is(found) => Skip::To(rest),
            None if text.begins(bytes) => Skip::Endless,
            Some(_) | None => Skip::Not,
        },
        Argument::Names => match line(bytes).and_then(|(module, rest)| Some((module, line(rest)?))) {
            Some((module, (name, rest))) if is_dotted_name(module) && is_dotted_name(name) => Skip::To(rest),
            Some(_) => Skip::Not,
            None => Skip::Beyond,
        },
    }
}

/// Up to the next line feed, and what stands behind it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end.saturating_add(1)..)?))
}

impl Text {
    fn is(&self, line: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Number => is_number(line.trim_ascii()),
            Self::Quoted => matches!(line.trim_ascii(), [b'\'', .., b'\''] | [b'"', .., b'"']),
        }
    }

    /// Whether a line of this kind can begin so.
    fn begins(&self, start: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Number => start.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace() || b"+-._xXoO".contains(byte)),
            Self::Quoted => start.trim_ascii_start().iter().take(1).all(|byte| b"'\"".contains(byte)),
        }
    }
}

/// Whether Python reads it as a number: whole or not, in any base, with a sign and the mark of a long one; or infinite, or none.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"L").unwrap_or(text);
    let text = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text).to_ascii_lowercase();
    match text.as_slice() {
        b"inf" | b"infinity" | b"nan" => true,
        [b'0', b'x' | b'o' | b'b', digits @ ..] => {
            !digits.is_empty() && digits.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'_')
        }
        text => !text.is_empty() && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'_')),
    }
}

fn is_dotted_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || *byte >= 0x80)
}
