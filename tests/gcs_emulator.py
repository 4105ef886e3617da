"""gcp-storage-emulator, with the response header that TensorStore needs and it leaves out.

python -m tests.gcs_emulator PORT
"""

import sys


def main(port: int) -> None:
    from gcp_storage_emulator.handlers import objects

    download = objects.download

    def with_generation(request, response, storage, *args, **kwargs):
        bucket, name = request.params["bucket_name"], request.params["object_id"]
        found = storage.objects.get(bucket, {}).get(name)
        if found is not None:
            response["x-goog-generation"] = found["generation"]
        download(request, response, storage, *args, **kwargs)

    objects.download = with_generation
    from gcp_storage_emulator.server import create_server  # its routes hold the function above

    create_server("127.0.0.1", port, in_memory=True).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
