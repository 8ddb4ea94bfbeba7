//! Compaction (`cleanup.policy=compact`).

use std::io;
use std::path::Path;

pub(super) fn read_mark(_dir: &Path) -> i64 {
    0
}

pub(super) fn swap(_dir: &Path, _path: &Path) -> io::Result<()> {
    Ok(())
}
