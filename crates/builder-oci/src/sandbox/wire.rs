//! The conversation between the builder and its sandbox: frames of JSON over a socket, file descriptors beside them.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ArchiveOptions, Failure, Mode, Network, Run, UnpackOptions};

/// Frames hold commands with their environments, never file contents.
const FRAME_SIZE_BYTES_MAX: u32 = 16 << 20;

/// Standard input, output and error at most.
const DESCRIPTORS_MAX: usize = 3;

/// The first frame: which namespaces to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Who must be the parent still; a sandbox never outlives it.
    pub(super) parent: u32,
    /// How users are mapped.
    pub(super) mode: Mode,
    /// Where the operation is done.
    pub(super) place: Place,
}

/// Where an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// In the first process, which has a mount namespace and may have a user namespace.
    Here,
    /// In a process that is the first one of a process namespace.
    Init(Network),
}

/// The frame after the ids are mapped: what to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Operation {
    /// Try every kind of mount that a run needs.
    Probe,
    /// Run a program. Descriptors: its standard input, output and error.
    Run {
        /// What to run and where.
        run: Run,
        /// Whether the program may use the terminal of the builder.
        session: Session,
        /// How users are mapped.
        mode: Mode,
    },
    /// Apply a layer to a tree. Descriptor: the tar.
    Unpack { root: PathBuf, options: UnpackOptions },
    /// Make a layer of a tree. Descriptor: the tar.
    Archive { root: PathBuf, options: ArchiveOptions },
    /// Remove a tree.
    Remove { path: PathBuf },
}

/// To which session of the terminal a program belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Session {
    /// One of its own, with no terminal.
    New,
    /// The builder's.
    Same,
}

/// What the sandbox says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The namespaces are made, the ids can be mapped.
    Unshared,
    /// The process that will do the operation is ready for it.
    Ready,
    /// The operation is done.
    Done,
    /// The program ended with this status, 128 plus the signal if one ended it.
    Exited(i32),
    /// It failed.
    Failed(Failure),
}

/// One end of the conversation.
pub(super) struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Both ends of a new conversation.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self { stream: ours }, theirs.into()))
    }

    /// The end that this process was given as its standard input.
    pub(super) fn inherited() -> io::Result<Self> {
        Ok(Self { stream: io::stdin().as_fd().try_clone_to_owned()?.into() })
    }

    /// Another handle to this end, to hand on.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.stream.try_clone()?.into())
    }

    /// Ends the conversation: whoever waits for a frame at the other end gets an end of file.
    pub(super) fn hang_up(&self) {
        // An error here means that nobody is there any more, which is what was wanted.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Sends one frame.
    pub(super) fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends one frame with descriptors.
    pub(super) fn send_with<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= FRAME_SIZE_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the orders are too long"))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let header = length.to_le_bytes();
        let sent = rustix::net::sendmsg(&self.stream, &[IoSlice::new(&header)], &mut control, SendFlags::NOSIGNAL)?;
        if sent != header.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (&self.stream).write_all(&body)
    }

    /// Receives one frame, or nothing if the other end is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        Ok(self.receive_with()?.map(|(message, _)| message))
    }

    /// Receives one frame with its descriptors.
    pub(super) fn receive_with<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<File>)>> {
        let mut header = [0_u8; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(&mut header)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?
        .bytes;
        if received == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights.map(File::from));
            }
        }
        let missing = header.get_mut(received..).unwrap_or_default();
        (&self.stream).read_exact(missing)?;
        let length = u32::from_le_bytes(header);
        if length > FRAME_SIZE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        (&self.stream).read_exact(&mut body)?;
        Ok(Some((serde_json::from_slice(&body)?, descriptors)))
    }
}
