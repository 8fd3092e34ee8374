"""Trust by touch: whom this device believes, and how two that touch come to."""
