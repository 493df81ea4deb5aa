//! Git repositories, served by a plain web server as files (git's "dumb" protocol), for everybody or behind a login.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::registry::output;

/// Serves the files beneath a folder on 127.0.0.1 until it is dropped.
pub struct FileServer {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl FileServer {
    /// Serves `folder`, to everybody or to whoever sends `login`, the value of an `Authorization` header.
    pub fn start(folder: &Path, login: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let server = Self { address, is_stopped: Arc::default() };
        let is_stopped = Arc::clone(&server.is_stopped);
        let (folder, login) = (folder.to_owned(), login.map(|login| format!("authorization: {login}")));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (folder, login) = (folder.clone(), login.clone());
                // A client that hangs up is no concern of the server.
                thread::spawn(move || serve(stream, &folder, login.as_deref()).ok());
            }
        });
        server
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, folder: &Path, login: Option<&str>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut is_known = login.is_none();
    for line in lines {
        let line = line?;
        is_known |= login.is_some_and(|login| line.eq_ignore_ascii_case(login));
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let content = fs::read(folder.join(path.trim_start_matches('/')));
    let (status, body) = match content {
        _ if !is_known => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"", Vec::new()),
        Ok(content) if !path.contains("..") => ("200 OK", content),
        _ => ("404 Not Found", Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// A repository with one commit of `files` as `NAME.git` in `folder`, ready to be served. Returns the commit.
pub fn repository(folder: &Path, name: &str, files: &[(&str, &str)]) -> String {
    let tree = folder.join(format!("{name}.work"));
    for (path, text) in files {
        let path: PathBuf = tree.join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
    let git = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "test").env(format!("GIT_{role}_EMAIL"), "test@example.org");
            command.env(format!("GIT_{role}_DATE"), "2020-01-01T00:00:00Z");
        }
        output(command.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(folder).args(arguments))
    };
    git(&tree, &["init", "--quiet", "--initial-branch=main"]);
    git(&tree, &["add", "--all"]);
    git(&tree, &["commit", "--quiet", "--message=one"]);
    let bare = folder.join(format!("{name}.git"));
    git(folder, &["clone", "--quiet", "--bare", &tree.display().to_string(), &bare.display().to_string()]);
    git(&bare, &["update-server-info"]);
    let commit = git(&bare, &["rev-parse", "HEAD"]);
    String::from_utf8(commit).expect("a commit is text").trim().to_owned()
}
