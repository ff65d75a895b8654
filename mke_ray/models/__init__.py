"""Plain torch networks: teachers, encoders, fusion, student, weights files."""

from mke_ray.models.student import Student, build_student
from mke_ray.models.teachers import StudentTeacher
from mke_ray.models.weights import LoadedStudent, load_student, save_student

__all__ = [
    "LoadedStudent",
    "Student",
    "StudentTeacher",
    "build_student",
    "load_student",
    "save_student",
]
