//! The reader on the real file system; the one file of this room that opens files.
//!
//! **Invariant:** nothing outside of the project root is opened, whatever links say.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::files::{Files, OUTSIDE, tidy};

/// Files below a project root.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// The disk for the given manifests: the root is the nearest folder above them that holds a `.git`, else what all of
    /// them are below. Paths that do not exist say so when they are listed.
    pub fn new(given: &[PathBuf]) -> io::Result<Self> {
        let mut common: Option<PathBuf> = None;
        for path in given {
            let Ok(path) = fs::canonicalize(path) else { continue };
            let folder = if path.is_dir() { path } else { path.parent().map(Path::to_path_buf).unwrap_or(path) };
            common = Some(match common {
                Some(common) => {
                    common.ancestors().find(|above| folder.starts_with(above)).map(Path::to_path_buf).unwrap_or(folder)
                }
                None => folder,
            });
        }
        let common = common.map_or_else(|| fs::canonicalize("."), Ok)?;
        let root = common.ancestors().find(|above| above.join(".git").exists()).unwrap_or(&common).to_path_buf();
        Ok(Disk { root })
    }

    /// A path that lies below the root, links followed.
    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let real = fs::canonicalize(path)?;
        if real.starts_with(&self.root) { Ok(real) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, OUTSIDE)) }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let real = self.inside(path)?;
        // Pipes and devices have no end; opening some of them waits for ever.
        let kind = fs::metadata(&real)?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        File::open(real)
    }

    fn walk(&self, folder: &Path, seen: &mut BTreeSet<PathBuf>, found: &mut Vec<PathBuf>) -> io::Result<()> {
        if !seen.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                match self.inside(&path) {
                    Ok(_) => self.walk(&path, seen, found)?,
                    // Listed itself, so that reading it says why it is refused.
                    Err(_) => found.push(tidy(&path)),
                }
            } else if is_manifest(&path) {
                found.push(tidy(&path));
            }
        }
        Ok(())
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

impl Files for Disk {
    fn list(&self, given: &Path) -> io::Result<Vec<PathBuf>> {
        self.inside(given)?;
        if !given.is_dir() {
            return Ok(vec![tidy(given)]);
        }
        let mut found = Vec::new();
        self.walk(given, &mut BTreeSet::new(), &mut found)?;
        found.sort();
        Ok(found)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn head(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut magic = Vec::new();
        self.open(path)?.take(2).read_to_end(&mut magic)?;
        let file = self.open(path)?;
        let mut bytes = Vec::new();
        if magic == [0x1f, 0x8b] {
            MultiGzDecoder::new(file).take(limit).read_to_end(&mut bytes)?;
        } else {
            file.take(limit).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inside(path)
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf], below: &Path) -> Vec<String> {
        paths.iter().map(|p| p.strip_prefix(below).unwrap().display().to_string()).collect()
    }

    #[test]
    fn lists_manifests_below_and_refuses_links_that_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.yaml"), "a").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/.hidden")).unwrap();
        for file in ["z.yml", "a.yaml", "b/c.yaml", "b/d.json", "b/.hidden/e.yaml", ".f.yaml"] {
            fs::write(root.join(file), "text").unwrap();
        }
        std::os::unix::fs::symlink(outside.path().join("secret.yaml"), root.join("link.yaml")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("b"), root.join("b/again")).unwrap();
        let disk = Disk::new(&[root.to_path_buf()]).unwrap();
        assert_eq!(names(&disk.list(root).unwrap(), root), ["a.yaml", "b/c.yaml", "link.yaml", "out", "z.yml"]);
        assert_eq!(disk.read(&root.join("a.yaml"), 4).unwrap(), b"text");
        assert_eq!(disk.read(&root.join("a.yaml"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for refused in ["link.yaml", "out", "out/secret.yaml"] {
            assert!(super::super::files::is_outside(&disk.read(&root.join(refused), 100).unwrap_err()), "{refused}");
        }
        assert_eq!(disk.read(Path::new("/dev/null"), 100).unwrap_err().to_string(), OUTSIDE);
        assert_eq!(disk.read(&root.join("b"), 100).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn the_root_is_the_nearest_repository_or_what_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("a/c")).unwrap();
        assert_eq!(Disk::new(&[root.join("a/b")]).unwrap().root(), root.join("a/b"));
        assert_eq!(Disk::new(&[root.join("a/b"), root.join("a/c")]).unwrap().root(), root.join("a"));
        fs::write(root.join(".git"), "gitdir: elsewhere").unwrap();
        assert_eq!(Disk::new(&[root.join("a/b")]).unwrap().root(), root);
        let disk = Disk::new(&[root.join("none")]).unwrap();
        assert_eq!(disk.list(&root.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn heads_of_packed_files() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        let mut packed = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(b"first\nsecond\n").unwrap();
        packed.finish().unwrap();
        let disk = Disk::new(&[folder.path().to_path_buf()]).unwrap();
        assert_eq!(disk.head(&path, 6).unwrap(), b"first\n");
    }
}
