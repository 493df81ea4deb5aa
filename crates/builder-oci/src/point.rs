//! Named points of a build, at each of which a test ends the program as `kill -9` does, and builds again.
//!
//! `IMAGESPEC_KILL_AT=blob-written` ends it at the first blob, `IMAGESPEC_KILL_AT=blob-written:3` at the third. Only in
//! builds with debug assertions: to a released program the variable means nothing.

/// A moment after which the disk, or a server, is in a state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// A Debian release was believed; nothing of it is fetched.
    ReleaseVerified,
    /// Half a package or wheel is here.
    HalfFetched,
    /// A Debian's packages are unpacked, and none is configured.
    TreeUnpacked,
    /// A Debian is whole, and no layer yet.
    TreeConfigured,
    /// It is known which wheels, or conda packages, are taken.
    Resolved,
    /// The first block of a layer is written.
    LayerBegun,
    /// A blob is whole and has no name.
    BlobWritten,
    /// A blob has its name, and nothing says what it is for.
    BlobNamed,
    /// A record is whole and has no name.
    RecordWritten,
    /// A layer is unpacked and has no name.
    SnapshotUnpacked,
    /// A layer is unpacked for all to use.
    SnapshotNamed,
    /// A program in the sandbox has said something and runs on.
    ProgramRuns,
    /// The programs ended, and what they changed is no layer yet.
    ProgramsEnded,
    /// A layer is a blob and its tree is gone, and no record says what it is for.
    LayerNamed,
    /// A file of an output is whole and has no name.
    OutputWritten,
    /// A layer is in the registry, and no image that has it.
    LayerPushed,
}

#[cfg(debug_assertions)]
impl Point {
    fn name(self) -> &'static str {
        match self {
            Self::ReleaseVerified => "release-verified",
            Self::HalfFetched => "half-fetched",
            Self::TreeUnpacked => "tree-unpacked",
            Self::TreeConfigured => "tree-configured",
            Self::Resolved => "resolved",
            Self::LayerBegun => "layer-begun",
            Self::BlobWritten => "blob-written",
            Self::BlobNamed => "blob-named",
            Self::RecordWritten => "record-written",
            Self::SnapshotUnpacked => "snapshot-unpacked",
            Self::SnapshotNamed => "snapshot-named",
            Self::ProgramRuns => "program-runs",
            Self::ProgramsEnded => "programs-ended",
            Self::LayerNamed => "layer-named",
            Self::OutputWritten => "output-written",
            Self::LayerPushed => "layer-pushed",
        }
    }
}

/// Says that the build is at `point`.
#[cfg(debug_assertions)]
pub(crate) fn reached(point: Point) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    static WANTED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("IMAGESPEC_KILL_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(count.parse().ok()?)))
    });
    if let Some((name, left)) = &*WANTED
        && name == point.name()
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // No signal that can be caught, and nothing is dropped.
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn reached(_: Point) {}
