//! Names and values that libvirt lists, and the items of its lists.

use std::collections::BTreeMap;

use super::sys::Param;
use crate::qemu::limits::MAX_TEXT;

/// Values of one kind by the rest of their names, of one item of a list.
pub(super) type Item<'p> = BTreeMap<&'p str, &'p Param>;

pub(super) fn unsigned(param: &Param) -> Option<u64> {
    match param {
        Param::Unsigned(value) => Some(*value),
        // A negative number stands for one that is not known.
        Param::Signed(value) => u64::try_from(*value).ok(),
        Param::Float(_) | Param::Bool(_) | Param::Text(_) => None,
    }
}

pub(super) fn number(item: &Item<'_>, key: &str) -> Option<u64> {
    item.get(key).copied().and_then(unsigned)
}

pub(super) fn text(item: &Item<'_>, key: &str) -> Option<String> {
    match item.get(key)? {
        Param::Text(text) if (1..=MAX_TEXT).contains(&text.len()) => Some(text.clone()),
        _ => None,
    }
}

/// The items of a list: `block.0.name` is `name` of item 0 of the list `block`.
pub(super) fn items<'p>(
    params: &'p [(String, Param)],
    list: &str,
    most: u32,
) -> BTreeMap<u32, Item<'p>> {
    let mut items: BTreeMap<u32, Item<'p>> = BTreeMap::new();
    for (name, param) in params {
        let rest = name.strip_prefix(list).and_then(|rest| rest.strip_prefix('.'));
        let Some((number, key)) = rest.and_then(|rest| rest.split_once('.')) else { continue };
        let Some(number) = number.parse().ok().filter(|n| *n < most) else { continue };
        items.entry(number).or_default().insert(key, param);
    }
    items
}
