"""AppArmor and SELinux: whether the host has them, so that what asks for them can be refused."""

from runtime.errors import InvalidSpec


def _first_letter(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1)
    except OSError:
        return ""


def has_apparmor() -> bool:
    """Tell whether AppArmor is enabled on this host."""
    return _first_letter("/sys/module/apparmor/parameters/enabled") == "Y"


def check_profile(profile: str, path: str) -> None:
    """Raise InvalidSpec for an AppArmor profile where there is no AppArmor."""
    if profile and not has_apparmor():
        raise InvalidSpec(f"config.json: {path}: AppArmor is not enabled on this host")


def check_label(label: str, path: str) -> None:
    """Raise InvalidSpec for an SELinux label where there is no SELinux."""
    if label and not _first_letter("/sys/fs/selinux/enforce"):
        raise InvalidSpec(f"config.json: {path}: SELinux is not enabled on this host")
