//! Many sockets: connections from an address each, held by children of this process, since one alone may not open so many
//! files.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::Result;

/// The first argument of a child.
pub(crate) const ROLE: &str = "crowd";
/// Sockets that one child makes. The first ones get a share of what later ones make too, all of it under a hard limit
/// that is common.
const EACH: usize = 8_000;
/// The listeners of the children share what comes, and their threads are not asked before it does.
const BACKLOG: i32 = 65_535;

/// The first client's address.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

pub(crate) struct Crowd {
    pub(crate) port: String,
    children: Vec<Child>,
    /// Keeps the port.
    _socket: Socket,
}

impl Crowd {
    /// So many sockets, all open when this returns: half of them are the app's, or all, where the clients have the same port.
    pub(crate) fn of(count: usize, all: bool) -> Result<Self> {
        fs::write("/proc/sys/net/core/somaxconn", BACKLOG.to_string())?;
        let socket = bound(Ipv4Addr::UNSPECIFIED, 0)?;
        let address = socket.local_addr()?.as_socket().ok_or("no address")?;
        let mut crowd = Self { port: address.port().to_string(), children: Vec::new(), _socket: socket };
        for begin in (0..count).step_by(EACH) {
            let end = count.min(begin + EACH);
            let child = Command::new(std::env::current_exe()?)
                .args([ROLE, &crowd.port, if all { &crowd.port } else { "0" }])
                .args([begin / 2, end / 2].map(|number| number.to_string()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            crowd.children.push(child);
            // One after the other: all of them listen before the next one's clients come.
            let ready =
                crowd.children.last_mut().and_then(|child| child.stdout.as_mut()).ok_or("no output")?;
            let mut line = String::new();
            BufReader::new(ready).read_line(&mut line)?;
            if line != "ready\n" {
                return Err("the connections could not be made".into());
            }
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn bound(address: Ipv4Addr, port: u16) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((address, port)).into())?;
    Ok(socket)
}

/// A child: makes the connections with these numbers and keeps both ends until its input ends.
pub(crate) fn child(port: &str, client: &str, from: &str, to: &str) -> ExitCode {
    match hold(port, client, from, to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hook: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(port: &str, client: &str, from: &str, to: &str) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (port, client): (u16, u16) = (port.parse()?, client.parse()?);
    let (from, to): (u32, u32) = (from.parse()?, to.parse()?);
    let listener = bound(Ipv4Addr::UNSPECIFIED, port)?;
    listener.listen(BACKLOG)?;
    thread::spawn(move || {
        let mut open = Vec::new();
        loop {
            match listener.accept() {
                Ok((stream, _)) => open.push(stream),
                // What is not accepted is a connection all the same; those that were stay open.
                Err(_) => thread::park(),
            }
        }
    });
    let mut open = Vec::new();
    for number in from..to {
        let socket = bound(Ipv4Addr::from(u32::from(FIRST) + number), client)?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        open.push(socket);
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(open);
    Ok(())
}
