from pybuild.cli.colours import Colours, colours_of


def test_no_color() -> None:
    assert colours_of({"NO_COLOR": "1", "BUILDKIT_COLORS": "run=red"}) == Colours(
        "", "", "", "", ""
    )
    assert colours_of({"NO_COLOR": ""}) == Colours()


def test_buildkit_colors() -> None:
    colours = colours_of({"BUILDKIT_COLORS": "run=light-cyan:ERROR=Green:cancel=255,165,0"})
    assert (colours.run, colours.error) == ("\x1b[96m", "\x1b[32m")
    assert colours.cancel == "\x1b[38;2;255;165;0m"
    assert colours.warning == Colours().warning


def test_what_makes_no_sense_is_passed_over() -> None:
    assert colours_of({"BUILDKIT_COLORS": "run:what=red:error=nocolor:cancel=1,2,300"}) == Colours()
