//! Sends the context and the Dockerfile, as far as BuildKit does not have them from the last time.
//!
//! Protocol: `moby.filesync.v1.FileSync` over fsutil's packets. We say what there is, entry after entry and each folder
//! before what is in it; BuildKit asks for the content of what it lacks, by position; we send it and an empty packet for
//! its end; BuildKit says that it has all, and so do we.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSync;
use imagespec_core::digest::{Digest, Hasher};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::recipe::Entry;

/// The metadata by which BuildKit says what it wants, and its two values.
const DIRECTORY_NAME: &str = "dir-name";
/// The metadata by which it says that it wants these paths alone.
const FOLLOW_PATHS: &str = "followpaths";
const IGNORE_FILE: &str = ".dockerignore";
const DOCKERFILE: &str = "dockerfile";
const CONTEXT: &str = "context";
/// Name of the Dockerfile in its own tree.
pub(crate) const DOCKERFILE_NAME: &str = "Dockerfile";
/// As fsutil sends it.
const CHUNK_SIZE_BYTES: usize = 32 * 1024;
const NANOSECONDS: i64 = 1_000_000_000;
/// Packets on their way; more would only lie in memory.
const PACKETS_MAX: usize = 16;
/// Bits of Go's `os.FileMode`.
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_LINK: u32 = 1 << 27;

/// What BuildKit may ask for.
pub(super) struct Files {
    pub(super) context: Arc<Tree>,
    pub(super) dockerfile: Arc<Tree>,
}

/// Entries in the order in which they are told, folders among them.
pub(crate) struct Tree {
    entries: Vec<(Stat, Content)>,
}

/// Where the content of an entry is.
#[derive(Clone)]
enum Content {
    None,
    Bytes(Vec<u8>),
    File { path: std::path::PathBuf, digest: Digest, size_bytes: u64 },
}

impl Tree {
    /// The tree of a context.
    pub(crate) fn of(context: &BTreeMap<String, Entry>, timestamp: u64) -> Self {
        // Compared by components, so that what is in a folder comes right after it.
        let mut entries: BTreeMap<Vec<&str>, Option<&Entry>> = BTreeMap::new();
        for (path, entry) in context {
            let components: Vec<&str> = path.split('/').collect();
            for count in 1..components.len() {
                entries.entry(components[..count].to_vec()).or_insert(None);
            }
            entries.insert(components, Some(entry));
        }
        let seconds = i64::try_from(timestamp).unwrap_or(i64::MAX);
        let time = seconds.min(i64::MAX / NANOSECONDS - 1) * NANOSECONDS;
        let entries = entries.into_iter().map(|(components, entry)| {
            let stat = Stat { path: components.join("/"), mod_time: time, ..Stat::default() };
            let directory = (Stat { mode: MODE_DIRECTORY | 0o755, ..stat.clone() }, Content::None);
            let Some(entry) = entry else { return directory };
            let file = |executable: bool, size_bytes: u64, digest: Digest| Stat {
                mode: if executable { 0o755 } else { 0o644 },
                size: i64::try_from(size_bytes).unwrap_or(i64::MAX),
                mod_time: time + fraction(digest),
                ..stat.clone()
            };
            match entry {
                Entry::Bytes { content, executable } => {
                    let stat = file(*executable, content.len() as u64, Digest::of(content));
                    (stat, Content::Bytes(content.clone()))
                }
                Entry::File { path, digest, size_bytes, executable } => {
                    let content = Content::File { path: path.clone(), digest: *digest, size_bytes: *size_bytes };
                    (file(*executable, *size_bytes, *digest), content)
                }
                Entry::Link { target } => {
                    (Stat { mode: MODE_LINK | 0o777, linkname: target.clone(), ..stat }, Content::None)
                }
                Entry::Directory => directory,
            }
        });
        Self { entries: entries.collect() }
    }

    /// The tree with the Dockerfile alone.
    pub(crate) fn of_dockerfile(text: &str, timestamp: u64) -> Self {
        let entry = Entry::Bytes { content: text.as_bytes().to_vec(), executable: false };
        Self::of(&BTreeMap::from([(DOCKERFILE_NAME.to_owned(), entry)]), timestamp)
    }
}

/// Nanoseconds less than a second, by content. BuildKit keeps the context for the next time, and takes a file for
/// unchanged whose length and time are what they were; all our files have one time. Layers know whole seconds alone.
fn fraction(digest: Digest) -> i64 {
    let first = digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
    i64::from(u32::from_be_bytes(*first)) % NANOSECONDS
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;
    type TarStreamStream = Self::DiffCopyStream;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::DiffCopyStream>, Status> {
        let name = request.metadata().get(DIRECTORY_NAME).and_then(|name| name.to_str().ok()).unwrap_or_default();
        let mut wanted = request.metadata().get_all(FOLLOW_PATHS).iter();
        let is_ignore_file = wanted.next().is_some_and(|path| path == IGNORE_FILE) && wanted.next().is_none();
        let tree = match name {
            // Our contexts have none, and BuildKit would take the whole of one to find that out.
            CONTEXT if is_ignore_file => Arc::new(Tree { entries: Vec::new() }),
            DOCKERFILE => Arc::clone(&self.dockerfile),
            CONTEXT => Arc::clone(&self.context),
            _ => return Err(Status::not_found("the session has `context` and `dockerfile`")),
        };
        let (sender, receiver) = mpsc::channel(PACKETS_MAX);
        tokio::spawn(send(tree, request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("the session sends by `DiffCopy`"))
    }
}

type Sender = mpsc::Sender<Result<Packet, Status>>;

/// Goes on until BuildKit has all, or hangs up.
async fn send(tree: Arc<Tree>, mut asked: Streaming<Packet>, sender: Sender) {
    let stats = Arc::clone(&tree);
    let (wanted, mut wanted_receiver) = mpsc::unbounded_channel::<u32>();
    let output = sender.clone();
    // Files are read where nobody else waits.
    let reader = tokio::task::spawn_blocking(move || -> Result<(), ()> {
        for (stat, _) in &stats.entries {
            output.blocking_send(Ok(stat_packet(Some(stat.clone())))).map_err(drop)?;
        }
        output.blocking_send(Ok(stat_packet(None))).map_err(drop)?;
        while let Some(id) = wanted_receiver.blocking_recv() {
            let content = usize::try_from(id).ok().and_then(|position| stats.entries.get(position));
            let Some((stat, content)) = content else {
                let status = Status::out_of_range("there is no entry of that number");
                return output.blocking_send(Err(status)).map_err(drop);
            };
            let mut chunk = |data: Vec<u8>| output.blocking_send(Ok(data_packet(id, data))).map_err(io::Error::other);
            if let Err(error) = content.send(&mut chunk) {
                let status = Status::aborted(format!("`{}` of the context cannot be sent: {error}", stat.path));
                return output.blocking_send(Err(status)).map_err(drop);
            }
            output.blocking_send(Ok(data_packet(id, Vec::new()))).map_err(drop)?;
        }
        Ok(())
    });
    while let Some(Ok(packet)) = asked.next().await {
        match packet.r#type() {
            PacketType::PacketReq => {
                if wanted.send(packet.id).is_err() {
                    break;
                }
            }
            PacketType::PacketFin => {
                drop(wanted);
                // Whatever is still on its way goes first.
                let _ = reader.await;
                let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                // BuildKit may have hung up, and has all.
                let _ = sender.send(Ok(end)).await;
                return;
            }
            PacketType::PacketErr => {
                tracing::debug!(message = %String::from_utf8_lossy(&packet.data), "BuildKit did not take the context");
                break;
            }
            PacketType::PacketStat | PacketType::PacketData => {}
        }
    }
}

impl Content {
    /// Hands the content over in pieces. What is not what the plan says is an error.
    fn send(&self, chunk: &mut dyn FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Bytes(bytes) => bytes.chunks(CHUNK_SIZE_BYTES).try_for_each(|part| chunk(part.to_vec())),
            Self::File { path, digest, size_bytes } => {
                let mut file = File::open(path)?.take(size_bytes + 1);
                let mut hasher = Hasher::default();
                let mut buffer = vec![0; CHUNK_SIZE_BYTES];
                loop {
                    let count = file.read(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    hasher.update(&buffer[..count]);
                    chunk(buffer[..count].to_vec())?;
                }
                if hasher.finish() != (*digest, *size_bytes) {
                    return Err(io::Error::other("it changed since the build began"));
                }
                Ok(())
            }
        }
    }
}

fn stat_packet(stat: Option<Stat>) -> Packet {
    Packet { r#type: PacketType::PacketStat.into(), stat, ..Packet::default() }
}

fn data_packet(id: u32, data: Vec<u8>) -> Packet {
    Packet { r#type: PacketType::PacketData.into(), id, data, ..Packet::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_before_what_is_in_it_and_that_before_everything_else() {
        let file = |content: &str| Entry::Bytes { content: content.as_bytes().to_vec(), executable: false };
        let context = BTreeMap::from([
            ("a/b/c".to_owned(), file("c")),
            ("a.txt".to_owned(), file("text")),
            ("a/empty".to_owned(), Entry::Directory),
            ("a/link".to_owned(), Entry::Link { target: "b/c".to_owned() }),
        ]);
        let tree = Tree::of(&context, 1);
        let told: Vec<_> = tree
            .entries
            .iter()
            .map(|(stat, _)| format!("{:o} {} {} {}", stat.mode, stat.path, stat.size, stat.linkname))
            .collect();
        assert_eq!(
            told,
            [
                "20000000755 a 0 ",
                "20000000755 a/b 0 ",
                "644 a/b/c 1 ",
                "20000000755 a/empty 0 ",
                "1000000777 a/link 0 b/c",
                "644 a.txt 4 "
            ]
        );
        assert!(tree.entries.iter().all(|(stat, _)| stat.mod_time / NANOSECONDS == 1));
    }

    #[test]
    fn a_file_of_the_same_length_and_other_content_has_another_time_within_the_same_second() {
        let time = |content: &str| {
            let file = Entry::Bytes { content: content.as_bytes().to_vec(), executable: false };
            Tree::of(&BTreeMap::from([("a".to_owned(), file)]), 7).entries[0].0.mod_time
        };
        assert_eq!(time("one"), time("one"));
        assert_ne!(time("one"), time("two"));
        assert_eq!((time("one") / NANOSECONDS, time("two") / NANOSECONDS), (7, 7));
    }

    #[test]
    fn a_file_that_changed_is_not_sent_as_what_it_was() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sent = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            let content = Content::File { path: file.path().to_owned(), digest: Digest::of(b"abc"), size_bytes: 3 };
            let mut bytes = Vec::new();
            let result = content.send(&mut |part| {
                bytes.extend(part);
                Ok(())
            });
            result.map(|()| bytes).map_err(|error| error.to_string())
        };
        assert_eq!(sent("abc").unwrap(), b"abc");
        for changed in ["abd", "ab", "abcd"] {
            assert_eq!(sent(changed).unwrap_err(), "it changed since the build began");
        }
    }
}
