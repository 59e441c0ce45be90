//! What tests and benches ask of the kernel: loopback in a new namespace, and a netlink that is refused.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `lo` is down in a new network namespace: `RTM_NEWLINK` of rtnetlink(7) for the first interface, with `IFF_UP`.
pub(crate) fn raise_loopback() {
    let up = u32::try_from(libc::IFF_UP).expect("a flag is positive").to_ne_bytes();
    let mut message = Vec::new();
    message.extend(32_u32.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(
        u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK)
            .expect("flags of a header have 16 bits")
            .to_ne_bytes(),
    );
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(1_u32.to_ne_bytes());
    message.extend(up);
    message.extend(up);
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkRoute)
        .expect("rtnetlink is open to anyone");
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())
        .expect("the kernel takes messages");
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())
        .expect("the kernel acknowledges what asks for it");
    let error = answer[..length]
        .get(16..20)
        .map(|bytes| i32::from_ne_bytes(bytes.try_into().expect("these are four bytes")));
    assert_eq!(error, Some(0), "loopback cannot be raised");
}

/// Refuses netlink sockets to this thread as a strict seccomp profile would, then becomes the program of these words;
/// the variable that brought them here is not handed on. Comes back only with the reason why it cannot.
pub(crate) fn become_without_netlink(words: &[&str], variable: &str) -> io::Error {
    refuse_netlink();
    Command::new(words[0]).args(&words[1..]).env_remove(variable).exec()
}

/// `socket(AF_NETLINK, ...)` fails with `EACCES` from now on (seccomp(2)).
fn refuse_netlink() {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("an operation has 16 bits"),
        jt: 0,
        jf: 0,
        k,
    };
    let skip_unless = |k: u32, jf: u8| libc::sock_filter {
        code: u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).expect("an operation has 16 bits"),
        jt: 0,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let number = |number: libc::c_long| u32::try_from(number).expect("the number of a system call is small");
    // The low half of the first argument, on either byte order of the machine.
    let argument = if cfg!(target_endian = "big") { 20 } else { 16 };
    let mut filter = [
        statement(load, 0),
        skip_unless(number(libc::SYS_socket), 3),
        statement(load, argument),
        skip_unless(u32::try_from(libc::AF_NETLINK).expect("a family is positive"), 1),
        statement(
            libc::BPF_RET,
            libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EACCES).expect("an error number is positive"),
        ),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the filter is short"),
        filter: filter.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().expect("anyone may give up privileges");
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    #[expect(unsafe_code, reason = "there is no safe call for it in nix")]
    // SAFETY: the program and its instructions live until the call returns, and the kernel copies them.
    let refused = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(refused, 0, "{}", std::io::Error::last_os_error());
}
