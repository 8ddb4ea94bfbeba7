//! The files that every schema may import without a reference: Google's well-known types and the registry's own.

use std::sync::LazyLock;

use super::names::Names;
use super::parse;
use super::tree::File;

/// Path and declarations.
pub(super) static FILES: LazyLock<Vec<(&str, File)>> = LazyLock::new(|| {
    let texts = include_str!("known.protos").split("// file: ").skip(1);
    texts.filter_map(|text| text.split_once('\n')).filter_map(|(path, text)| Some((path, parse::file(text).ok()?))).collect()
});

/// Their types.
pub(super) static NAMES: LazyLock<Names<'static>> = LazyLock::new(|| {
    let mut names = Names::default();
    for (_, file) in FILES.iter() {
        names.add(file, super::names::Origin::Known);
    }
    names
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_read_and_resolve() {
        assert_eq!(FILES.len(), 29);
        for (path, file) in FILES.iter() {
            let mut names = Names::default();
            names.add(file, super::super::names::Origin::Own);
            let printed = super::super::print::normal(file, &names);
            assert!(printed.is_ok(), "{path}: {printed:?}");
        }
    }
}
