//! Directory in which consumers look for regions.

use std::path::PathBuf;

/// Where regions are announced unless a program says otherwise: `$DOMSTAT_DIR`, else `/run/domstat` for
/// root and `$XDG_RUNTIME_DIR/domstat` for other users; `None` if there is none of them.
#[must_use]
pub fn default_dir() -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    choose(|name| std::env::var_os(name).map(PathBuf::from), is_root)
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>, is_root: bool) -> Option<PathBuf> {
    let named = |name| variable(name).filter(|dir| !dir.as_os_str().is_empty());
    match named("DOMSTAT_DIR") {
        Some(dir) => Some(dir),
        None if is_root => Some(PathBuf::from("/run/domstat")),
        None => named("XDG_RUNTIME_DIR").map(|dir| dir.join("domstat")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_looked_at_in_order() {
        let of = |set: &[(&str, &str)], is_root| {
            let value = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            choose(value, is_root).map(|dir| dir.display().to_string())
        };
        let both = [("DOMSTAT_DIR", "/d"), ("XDG_RUNTIME_DIR", "/x")];
        assert_eq!(of(&both, true).as_deref(), Some("/d"));
        assert_eq!(of(&both[1..], true).as_deref(), Some("/run/domstat"));
        assert_eq!(of(&both[1..], false).as_deref(), Some("/x/domstat"));
        assert_eq!(of(&[("DOMSTAT_DIR", ""), ("XDG_RUNTIME_DIR", "")], false), None);
    }
}
