//! Names for generations that no other generation has: not in this pod, not in another, not after a restart.
//!
//! Makes them; keeping them is the checkpoint's work.

use std::fs;
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_64;

use crate::files::generation::Identity;

/// Makes keys.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The pod's name: the kernel's host name in a container (pods of one Deployment have the same volume layout,
    /// and may find their first file at the same moment).
    host: String,
    count: u64,
}

impl Keys {
    pub(crate) fn new() -> Self {
        // Only fails where /proc is not mounted; the time and the inode are left then.
        Self { host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(), count: 0 }
    }

    /// The key of a file that was just found; never 0.
    pub(crate) fn next(&mut self, identity: Identity) -> u64 {
        self.count += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut bytes = self.host.clone().into_bytes();
        for number in [identity.device, identity.inode, now.as_secs(), now.subsec_nanos().into(), self.count]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        xxh3_64(&bytes).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_comes_twice() {
        let (mut one, mut two) = (Keys::new(), Keys { host: "another pod".into(), count: 0 });
        let identity = Identity { device: 1, inode: 2 };
        let keys = [one.next(identity), one.next(identity), Keys::new().next(identity), two.next(identity)];
        assert!(keys.iter().enumerate().all(|(at, key)| *key != 0 && !keys[..at].contains(key)), "{keys:?}");
    }
}
