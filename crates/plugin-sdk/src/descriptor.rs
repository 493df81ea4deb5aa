//! What a plugin's file says of itself without being loaded. Made while the plugin is compiled.

use imagespec_core::boundary::REQUEST_VERSION;
use imagespec_plugin_abi::ABI_VERSION;

// The versions stand in texts that are put together by the compiler, which knows no formatting.
const _: () = assert!(ABI_VERSION == 1 && REQUEST_VERSION == 1);

const BEFORE_NAME: &str = concat!(
    r#"{"abi":1,"requests":[1],"target":""#,
    env!("IMAGESPEC_TARGET"),
    r#"","sdk":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","name":""#
);
const AFTER_NAME: &str = r#""}"#;

/// The length in bytes of the descriptor of the builder `name`.
pub const fn length(name: &str) -> usize {
    BEFORE_NAME.len() + name.len() + AFTER_NAME.len()
}

/// The descriptor of the builder `name`, for the section [`imagespec_plugin_abi::SECTION`].
///
/// # Panics
/// While it is compiled, when no builder can have that name.
pub const fn descriptor<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut at = 0;
    let parts = [BEFORE_NAME.as_bytes(), name.as_bytes(), AFTER_NAME.as_bytes()];
    let mut part = 0;
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            let byte = parts[part][index];
            let fits =
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || (index > 0 && matches!(byte, b'_' | b'.' | b'-'));
            assert!(part != 1 || fits, "the name of a builder has lower-case letters, digits, `_`, `.` and `-`");
            bytes[at] = byte;
            at += 1;
            index += 1;
        }
        part += 1;
    }
    assert!(at == LENGTH && !name.is_empty(), "a builder has a name");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_is_json() {
        let bytes = descriptor::<{ length("my-builder") }>("my-builder");
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["name"], "my-builder");
        assert_eq!(value["abi"], ABI_VERSION);
        assert_eq!(value["requests"][0], REQUEST_VERSION);
        assert_eq!(value["target"], env!("IMAGESPEC_TARGET"));
    }
}
