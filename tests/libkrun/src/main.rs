//! Runs a guest in libkrun: `domstat-libkrun IMAGE DISK NR_VCPUS [NAME]`.
//!
//! IMAGE is mapped below 4 GiB, and the guest begins at its reset vector; its serial port is this process's
//! standard input and output. With NAME the statistics are published. The process ends with its guest.

use std::error::Error;
use std::ffi::CString;

fn done(action: &str, result: i32) -> Result<u32, Box<dyn Error>> {
    u32::try_from(result).map_err(|_| {
        format!("cannot {action}: {}", std::io::Error::from_raw_os_error(-result)).into()
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (image, disk, nr_vcpus, name) = match args.as_slice() {
        [image, disk, nr_vcpus] => (image, disk, nr_vcpus, None),
        [image, disk, nr_vcpus, name] => {
            (image, disk, nr_vcpus, Some(CString::new(name.as_str())?))
        }
        _ => return Err("usage: domstat-libkrun IMAGE DISK NR_VCPUS [NAME]".into()),
    };
    let (image, disk) = (CString::new(image.as_str())?, CString::new(disk.as_str())?);
    let nr_vcpus = nr_vcpus.parse()?;
    done("set the log level", krun::krun_set_log_level(2))?;
    let ctx = done("create a context", krun::krun_create_ctx())?;
    done("set the configuration", krun::krun_set_vm_config(ctx, nr_vcpus, 64))?;
    done("do without a console", krun::krun_disable_implicit_console(ctx))?;
    done("do without a vsock", krun::krun_disable_implicit_vsock(ctx))?;
    // SAFETY: the string ends with a zero byte, and the callee copies it.
    done("set the image", unsafe { krun::krun_set_firmware(ctx, image.as_ptr()) })?;
    // SAFETY: both strings end with a zero byte, and the callee copies them.
    done("add the disk", unsafe {
        krun::krun_add_disk(ctx, c"vda".as_ptr(), disk.as_ptr(), false)
    })?;
    // SAFETY: both descriptors are open, and nothing else in this process uses them from here on.
    done("connect the serial port", unsafe { krun::krun_add_serial_console_default(ctx, 0, 1) })?;
    if let Some(name) = name {
        // SAFETY: the string ends with a zero byte, and the callee copies it.
        done("publish", unsafe { krun::krun_publish_stats(ctx, name.as_ptr()) })?;
    }
    done("run the guest", krun::krun_start_enter(ctx))?;
    Ok(())
}
