//! Reference values, prepared for the one question that is asked of them: is this value among them, and under which name.

use std::collections::HashMap;
use std::fmt::Write as _;

use protocol::ids::Name;

/// How many values a check spells out as expected; beyond it, it says how many there are.
const SPELLED_OUT: usize = 8;

/// Named sets of byte strings of one size.
#[derive(Debug)]
pub(crate) struct NamedSets<const N: usize> {
    names: HashMap<[u8; N], Name>,
    expected: String,
}

impl<const N: usize> NamedSets<N> {
    /// From sets in their order; values read as hex. Of a value that stands in several sets, the first set's name is kept.
    pub(crate) fn new(sets: Vec<(Name, Vec<[u8; N]>)>) -> Self {
        Self::spelled(sets, |value| hex::encode(value))
    }

    /// The same, with the values' own way to be read by people.
    pub(crate) fn spelled(sets: Vec<(Name, Vec<[u8; N]>)>, text: impl Fn(&[u8; N]) -> String) -> Self {
        let spelled_out = sets.iter().map(|(_, values)| values.len()).sum::<usize>() <= SPELLED_OUT;
        let mut expected = String::from("one of");
        let mut names = HashMap::new();
        for (name, values) in sets {
            // Writing to a String cannot fail.
            let _ = if spelled_out {
                write!(expected, " {name}: {};", values.iter().map(&text).collect::<Vec<_>>().join(" "))
            } else {
                write!(expected, " {name}: {} values;", values.len())
            };
            for value in values {
                names.entry(value).or_insert_with(|| name.clone());
            }
        }
        expected.pop();
        Self { names, expected }
    }

    /// The name of the set that holds `value`.
    pub(crate) fn find(&self, value: &[u8; N]) -> Option<&Name> {
        self.names.get(value)
    }

    /// For people: the sets, and their values where they are few.
    pub(crate) fn expected(&self) -> &str {
        &self.expected
    }
}

/// A list of values without names, sorted.
#[derive(Debug)]
pub(crate) struct List<T>(Vec<T>);

impl<T: Ord> List<T> {
    /// From values without repetition.
    pub(crate) fn new(mut values: Vec<T>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// Whether `value` is among them.
    pub(crate) fn contains<Q: Ord + ?Sized>(&self, value: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.0.binary_search_by(|own| own.borrow().cmp(value)).is_ok()
    }

    /// For people: the values in `text` form, or how many they are.
    pub(crate) fn spell_out(&self, text: impl Fn(&T) -> String) -> String {
        if self.0.len() <= SPELLED_OUT {
            self.0.iter().map(text).collect::<Vec<_>>().join(", ")
        } else {
            format!("{} values", self.0.len())
        }
    }
}

impl<const N: usize> List<[u8; N]> {
    /// For people: the values in hex, or how many they are.
    pub(crate) fn in_hex(&self) -> String {
        self.spell_out(|value| hex::encode(value.as_slice()))
    }
}
