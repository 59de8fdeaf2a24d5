"""The image: its build context, build, rebuild, base image, wheels and bill of materials."""
