//! Socket paths that virtual devices leave behind when their process is killed.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;

/// Removes the socket that a device would listen on, if nobody listens there any more: net_vhost
/// and net_virtio_user do not start where one is left.
pub(super) fn remove_stale(device: &str) {
    let Some(path) = listens_on(device) else { return };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|met| met.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        // Should it not go, the device says so when it is made.
        let _ = std::fs::remove_file(path);
    }
}

/// The path of the socket that a device listens on, if it does.
fn listens_on(device: &str) -> Option<&str> {
    let value = |name: &str| {
        device.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name))
    };
    let is = |name: &str| value(name).is_some_and(|(_, value)| value == "1");
    let path = if device.starts_with("net_vhost") || device.starts_with("eth_vhost") {
        (!is("client")).then(|| value("iface"))?
    } else if device.starts_with("net_virtio_user") || device.starts_with("virtio_user") {
        is("server").then(|| value("path"))?
    } else {
        None
    };
    path.map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_have_a_path() {
        assert_eq!(listens_on("net_vhost0,iface=/a,queues=1"), Some("/a"));
        assert_eq!(listens_on("net_vhost0,iface=/a,client=1"), None);
        assert_eq!(listens_on("net_virtio_user0,path=/a"), None);
        assert_eq!(listens_on("net_virtio_user0,path=/a,server=1"), Some("/a"));
        assert_eq!(listens_on("0000:03:00.0"), None);
    }
}
