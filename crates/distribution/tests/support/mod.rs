//! A proxy that cuts a connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use imagespec_core::reference::Reference;

/// Passes connections on, and cuts one after it sent so many bytes.
pub(crate) struct CuttingProxy {
    address: SocketAddr,
    has_cut: Arc<AtomicBool>,
}

impl CuttingProxy {
    pub(crate) fn start(to: SocketAddr, cut_after_bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let has_cut: Arc<AtomicBool> = Arc::default();
        let flag = Arc::clone(&has_cut);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(to).expect("the registry runs");
                let flag = Arc::clone(&flag);
                let (to_client, from_server) = (client.try_clone(), server.try_clone());
                thread::spawn(move || copy(from_server.expect("a socket"), to_client.expect("a socket")));
                thread::spawn(move || {
                    let allowed = if flag.load(Ordering::SeqCst) { u64::MAX } else { cut_after_bytes };
                    let count = copy((&client).take(allowed), &server);
                    if count == allowed {
                        flag.store(true, Ordering::SeqCst);
                    }
                    // One that is closed already needs no closing.
                    client.shutdown(Shutdown::Both).ok();
                    server.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Self { address, has_cut }
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.address).parse().expect("a reference")
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::SeqCst)
    }
}

/// Copies until one side ends, and says how many bytes there were.
fn copy(mut from: impl Read, mut to: impl Write) -> u64 {
    let mut buffer = vec![0; 16 * 1024];
    let mut count = 0;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        count += length as u64;
    }
    count
}
