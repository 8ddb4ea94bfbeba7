//! The reader that manifests are read through, and the rules for the paths that they name.
//!
//! A manifest may be a stranger's: it names files below the project root only, relative to its own folder. What leads out
//! is refused by its text before anything is opened, and by the reader where a symbolic link would lead out.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Reads what manifests consist of. Paths are as users type them, relative to where the program was started; each call
/// refuses what lies outside of the root by `PermissionDenied` and a message that does not show what was found.
pub trait Files {
    /// The `*.yaml` and `*.yml` files below a directory, sorted, hidden ones left out; a file gives itself.
    fn list(&self, given: &Path) -> io::Result<Vec<PathBuf>>;

    /// A file's bytes; `FileTooLarge` past `limit`.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The first `limit` bytes of a file, unpacked if it is a gzip file.
    fn head(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// A path without links and `..`, absolute.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// The project root, in the form that `canonical` gives.
    fn root(&self) -> &Path;

    /// An environment variable.
    fn env(&self, name: &str) -> Option<String>;
}

/// A file that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// To open it.
    pub(super) open: PathBuf,
    /// To show it: the manifest's folder and the name together, without needless `..`.
    pub(super) shown: PathBuf,
    /// Relative to the project root.
    pub(super) below_root: PathBuf,
}

/// Why a name is no path to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Empty,
    Absolute,
    Outside,
}

impl Refused {
    /// As the rest of "the path ..".
    pub(super) fn reason(self) -> &'static str {
        match self {
            Refused::Empty => "is empty",
            Refused::Absolute => "is absolute",
            Refused::Outside => "leads out of the project root",
        }
    }
}

/// Where the file `name` of the manifest `manifest` is. `folder` is the manifest's folder, canonical.
pub(super) fn named(name: &str, manifest: &Path, folder: &Path, root: &Path) -> Result<Named, Refused> {
    let path = Path::new(name);
    if name.is_empty() || name.contains('\0') {
        return Err(Refused::Empty);
    }
    // A drive or a backslash would be absolute on another system, where the same manifest is read too.
    if path.has_root() || name.starts_with('\\') || name.as_bytes().get(1) == Some(&b':') {
        return Err(Refused::Absolute);
    }
    // Step by step: not even on the way may the path leave the root.
    let mut here = folder.to_path_buf();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                here.pop();
            }
            Component::Normal(part) => here.push(part),
            Component::Prefix(_) | Component::RootDir => return Err(Refused::Absolute),
        }
        if !here.starts_with(root) {
            return Err(Refused::Outside);
        }
    }
    let below_root = here.strip_prefix(root).map_err(|_| Refused::Outside)?.to_path_buf();
    let shown = tidy(&manifest.parent().unwrap_or(Path::new("")).join(path));
    Ok(Named { open: here, shown, below_root })
}

/// The path without `.` and without `x/..`; leading `..` stay.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match (part, tidied.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                tidied.pop();
            }
            _ => tidied.push(part),
        }
    }
    tidied
}

/// What went wrong with a file, in words; never what stands in it.
pub(super) fn trouble(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::FileTooLarge => "the file is too large".into(),
        io::ErrorKind::IsADirectory => "it is a directory".into(),
        io::ErrorKind::InvalidData => "it is not what its name says".into(),
        io::ErrorKind::PermissionDenied if is_outside(error) => "it leads out of the project root".into(),
        io::ErrorKind::PermissionDenied => "it may not be read".into(),
        kind => format!("it can't be read: {kind}"),
    }
}

/// The message by which a reader refuses what lies outside of the root.
pub(super) const OUTSIDE: &str = "outside of the project root";

/// Whether a reader refused a path because it lies outside of the root.
pub(super) fn is_outside(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.get_ref().is_some_and(|inner| inner.to_string() == OUTSIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Result<(String, String), Refused> {
        let named = named(name, Path::new("products/a/x.yaml"), Path::new("/p/products/a"), Path::new("/p"))?;
        Ok((named.shown.display().to_string(), named.below_root.display().to_string()))
    }

    #[test]
    fn names_are_relative_to_the_manifest() {
        assert_eq!(name("q.sql"), Ok(("products/a/q.sql".into(), "products/a/q.sql".into())));
        assert_eq!(name("./b/../q.sql"), Ok(("products/a/q.sql".into(), "products/a/q.sql".into())));
        assert_eq!(name("../../schemas/s.json"), Ok(("schemas/s.json".into(), "schemas/s.json".into())));
    }

    #[test]
    fn nothing_leads_out() {
        assert_eq!(name("../../../etc/passwd"), Err(Refused::Outside));
        assert_eq!(name("../../../p/schemas/s.json"), Err(Refused::Outside));
        assert_eq!(name("/etc/passwd"), Err(Refused::Absolute));
        assert_eq!(name("C:\\x"), Err(Refused::Absolute));
        assert_eq!(name("\\\\host\\x"), Err(Refused::Absolute));
        assert_eq!(name(""), Err(Refused::Empty));
    }

    #[test]
    fn paths_are_shown_from_where_the_user_stands() {
        assert_eq!(tidy(Path::new("./products/../schemas/a.json")), Path::new("schemas/a.json"));
        assert_eq!(tidy(Path::new("../../a")), Path::new("../../a"));
    }
}
