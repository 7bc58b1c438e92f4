//! Labels that operators give domains, as labels of a series.
//!
//! Keys are [a-z0-9_.]. Names of the text formats have no dots: as with `kube_pod_labels`, a name is
//! `label_` and the key with `_` for what a name cannot have, and keys that would get the same name
//! get `_conflict1`, `_conflict2` and so on behind it, in the order of the keys.

use std::collections::{BTreeMap, BTreeSet};

/// Keys that are exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// These.
    These(BTreeSet<String>),
    /// All.
    All,
}

impl Default for Keys {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Keys {
    /// Whether no key is exported.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::These(keys) if keys.is_empty())
    }

    fn contains(&self, key: &str) -> bool {
        match self {
            Self::These(keys) => keys.contains(key),
            Self::All => true,
        }
    }
}

/// Names and values of labels, by key. Names do not depend on which keys are exported, so that a
/// selection renames nothing.
#[must_use]
pub fn names<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    exported: &Keys,
) -> Vec<(String, String)> {
    let labels: BTreeMap<&str, &str> = labels.collect();
    let mut same: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for key in labels.keys() {
        same.entry(name(key)).or_default().push(key);
    }
    let mut named = BTreeMap::new();
    for (name, keys) in &same {
        match keys.as_slice() {
            [only] => {
                named.insert(*only, name.clone());
            }
            several => {
                // A key that has such a name of its own keeps it.
                let mut free = (1u32..).map(|n| format!("{name}_conflict{n}"));
                for key in several {
                    if let Some(name) = free.find(|name| !same.contains_key(name)) {
                        named.insert(*key, name);
                    }
                }
            }
        }
    }
    let exported = labels.iter().filter(|(key, _)| exported.contains(key));
    exported
        .filter_map(|(key, value)| Some((named.get(key)?.clone(), (*value).to_owned())))
        .collect()
}

fn name(key: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("label_{}", key.chars().map(legal).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, keys: &Keys) -> String {
        let labels = names(text.lines().filter_map(|line| line.split_once('=')), keys);
        let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_become_names_and_none_is_lost() {
        assert_eq!(
            shown("tenant=acme\nzone.a=b=c\n", &Keys::All),
            "label_tenant=acme label_zone_a=b=c"
        );
        assert_eq!(shown("tenant=acme\n", &Keys::default()), "");
        assert_eq!(shown("", &Keys::All), "");
        let text = "a.b=1\na_b=2\na_b_conflict1=3\n";
        let all = "label_a_b_conflict2=1 label_a_b_conflict3=2 label_a_b_conflict1=3";
        assert_eq!(shown(text, &Keys::All), all);
        let these = Keys::These(["a_b".to_owned(), "other".to_owned()].into());
        assert_eq!(shown(text, &these), "label_a_b_conflict3=2", "as with all of them");
    }
}
