//! Looks for a secret where none may lie.

use std::fs;
use std::path::Path;

/// The files beneath `folder` that hold `text`; gzip members are looked into by whoever unpacked them.
pub fn holders(folder: &Path, text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("what was built can be read") {
        let path = entry.expect("what was built can be read").path();
        let metadata = fs::symlink_metadata(&path).expect("what was built can be read");
        if metadata.is_dir() {
            found.extend(holders(&path, text));
        } else if metadata.is_file()
            && fs::read(&path).expect("what was built can be read").windows(text.len()).any(|window| window == text)
        {
            found.push(path.display().to_string());
        }
    }
    found
}
