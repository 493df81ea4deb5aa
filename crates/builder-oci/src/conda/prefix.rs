//! Puts the environment's path in place of the one that a package was built with. Pure.
//!
//! Format: `prefix_placeholder` and `file_mode` in `info/paths.json`. A text may become shorter; in a binary file, each
//! C string with the placeholder keeps its length, with NULs at its end.

/// What the content of a file cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// `content` with `prefix` for each `placeholder`.
///
/// # Errors
/// When it becomes longer than `size_bytes_max`.
pub(super) fn text(
    content: &[u8],
    placeholder: &[u8],
    prefix: &[u8],
    size_bytes_max: usize,
) -> Result<Vec<u8>, TooLong> {
    let mut replaced = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(position) = find(rest, placeholder) {
        replaced.extend_from_slice(&rest[..position]);
        replaced.extend_from_slice(prefix);
        rest = &rest[position + placeholder.len()..];
        if replaced.len().saturating_add(rest.len()) > size_bytes_max {
            return Err(TooLong);
        }
    }
    replaced.extend_from_slice(rest);
    Ok(replaced)
}

/// The same for a binary file, whose length stays.
///
/// # Errors
/// When the prefix is longer than the placeholder.
pub(super) fn binary(content: &[u8], placeholder: &[u8], prefix: &[u8]) -> Result<Vec<u8>, TooLong> {
    if prefix.len() > placeholder.len() {
        return Err(TooLong);
    }
    let mut replaced = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(position) = find(rest, placeholder) {
        replaced.extend_from_slice(&rest[..position]);
        // Up to its NUL, or the end of the file, it is one string, and may hold the placeholder again.
        let string = &rest[position..];
        let length = string.iter().position(|byte| *byte == 0).unwrap_or(string.len());
        let mut shortened = text(&string[..length], placeholder, prefix, length)?;
        shortened.resize(length, 0);
        replaced.extend_from_slice(&shortened);
        rest = &string[length..];
    }
    replaced.extend_from_slice(rest);
    Ok(replaced)
}

fn find(content: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut start = 0;
    while let Some(found) = content[start..].iter().position(|byte| *byte == first) {
        let position = start + found;
        if content[position..].starts_with(wanted) {
            return Some(position);
        }
        start = position + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_shorter_and_a_binary_string_keeps_its_length() {
        let replaced = text(b"#!/long/place/bin/p\n/long/place", b"/long/place", b"/v", 32);
        assert_eq!(replaced.as_deref(), Ok(b"#!/v/bin/p\n/v".as_slice()));
        let content = b"\x7fELF\0/long/place/lib:/long/place/x\0rest\0/long/place";
        let replaced = binary(content, b"/long/place", b"/v").unwrap();
        assert_eq!(replaced.len(), content.len());
        assert_eq!(replaced, b"\x7fELF\0/v/lib:/v/x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0rest\0/v\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_binary_file_cannot_grow_and_no_placeholder_is_found_nowhere() {
        assert_eq!(binary(b"/x\0", b"/x", b"/opt/venv"), Err(TooLong));
        assert_eq!(text(b"abc", b"", b"/v", 3).as_deref(), Ok(b"abc".as_slice()));
        assert_eq!(binary(b"abab/p", b"abc", b"/v").unwrap(), b"abab/p");
    }

    #[test]
    fn a_text_grows_to_what_it_may_have_and_no_further() {
        assert_eq!(text(b"/a:/a", b"/a", b"/venv", 11).as_deref(), Ok(b"/venv:/venv".as_slice()));
        assert_eq!(text(b"/a:/a", b"/a", b"/venv", 10), Err(TooLong));
    }
}
